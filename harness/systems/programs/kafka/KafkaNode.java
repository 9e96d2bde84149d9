import java.io.IOException;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.List;
import java.util.stream.Collectors;
import java.util.stream.Stream;

import org.apache.kafka.common.utils.Exit;

/**
 * A node of the kafka system: a broker that formats its storage, once, before it starts.
 *
 * `java KafkaNode CONFIG CLUSTER_ID DATA`, where DATA is the one log.dirs of CONFIG. Kafka
 * ships two programs for this; a machine would run two JVMs in a row. The tool syncs only a
 * part of what it writes and leaves the rest to the kernel, which has done its work long
 * before a broker of a year loses its power. A run is shorter, so this syncs it all.
 */
public final class KafkaNode {
    private static final class Formatted extends RuntimeException {
        final int status;

        Formatted(int status) {
            this.status = status;
        }
    }

    public static void main(String[] given) throws IOException {
        Path data = Path.of(given[2]);
        if (!Files.exists(data.resolve("meta.properties"))) {
            int status = format(given[0], given[1]);
            if (status != 0) {
                System.exit(status);
            }
            sync(data);
        }
        kafka.Kafka.main(new String[] {given[0]});
    }

    /** Make a folder durable: its files, and who is in it. */
    private static void sync(Path folder) throws IOException {
        List<Path> files;
        try (Stream<Path> found = Files.list(folder)) {
            files = found.filter(Files::isRegularFile).collect(Collectors.toList());
        }
        for (Path file : files) {
            try (FileChannel channel = FileChannel.open(file, StandardOpenOption.WRITE)) {
                channel.force(true);
            }
        }
        for (Path each : List.of(folder, folder.getParent())) {
            try (FileChannel channel = FileChannel.open(each, StandardOpenOption.READ)) {
                channel.force(true);
            }
        }
    }

    /** The status with which Kafka's own tool would exit. */
    private static int format(String config, String clusterId) {
        // The tool exits when it is done, and this is the way to keep it from that.
        Exit.setExitProcedure((status, message) -> {
            if (message != null) {
                System.err.println(message);
            }
            throw new Formatted(status);
        });
        try {
            kafka.tools.StorageTool.main(
                new String[] {"format", "--config", config, "--cluster-id", clusterId});
            return 0;
        } catch (Formatted done) {
            return done.status;
        } finally {
            Exit.resetExitProcedure();
        }
    }
}
