// The state machine: registers, and their snapshots.

import java.io.IOException;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import org.apache.ratis.io.MD5Hash;
import org.apache.ratis.proto.RaftProtos.LogEntryProto;
import org.apache.ratis.protocol.Message;
import org.apache.ratis.protocol.RaftGroupId;
import org.apache.ratis.server.RaftServer;
import org.apache.ratis.server.protocol.TermIndex;
import org.apache.ratis.server.storage.FileInfo;
import org.apache.ratis.server.storage.RaftStorage;
import org.apache.ratis.statemachine.TransactionContext;
import org.apache.ratis.statemachine.impl.BaseStateMachine;
import org.apache.ratis.statemachine.impl.SimpleStateMachineStorage;
import org.apache.ratis.statemachine.impl.SingleFileSnapshotInfo;
import org.apache.ratis.util.MD5FileUtil;

/** Values by key, both as JSON. Commands and results are JSON, too: see RatisNode. */
public class Registers extends BaseStateMachine {
    private final SimpleStateMachineStorage storage = new SimpleStateMachineStorage();
    private final Map<String, String> values = new HashMap<>();

    @Override
    public void initialize(RaftServer server, RaftGroupId group, RaftStorage raft)
        throws IOException {
        super.initialize(server, group, raft);
        // The library makes this folder once, and does not sync its name: a loss of power may take it.
        Files.createDirectories(raft.getStorageDir().getStateMachineDir().toPath());
        storage.init(raft);
        reinitialize();
    }

    /** Loads the latest snapshot: at the start, and after one came from the leader. */
    @Override
    public synchronized void reinitialize() throws IOException {
        SingleFileSnapshotInfo latest = storage.loadLatestSnapshot();
        if (latest == null) return;
        Path file = latest.getFile().getPath();
        MD5Hash digest = latest.getFile().getFileDigest();
        if (digest != null) MD5FileUtil.verifySavedMD5(file.toFile(), digest);
        values.clear();
        for (String line : Files.readAllLines(file, StandardCharsets.UTF_8)) {
            List<String> pair = SplitbrainNode.items(line);
            values.put(pair.get(0), pair.get(1));
        }
        setLastAppliedTermIndex(latest.getTermIndex());
    }

    /** Writes a snapshot; it has its name only when it, and its digest, are durable. */
    @Override
    public long takeSnapshot() throws IOException {
        TermIndex at;
        StringBuilder text = new StringBuilder();
        synchronized (this) {
            at = getLastAppliedTermIndex();
            values.forEach((k, v) -> text.append("[" + k + "," + v + "]\n"));
        }
        Path file = storage.getSnapshotFile(at.getTerm(), at.getIndex()).toPath();
        Path partial = file.resolveSibling("partial");
        Files.writeString(partial, text);
        sync(partial, StandardOpenOption.WRITE);
        MD5Hash digest = MD5FileUtil.computeMd5ForFile(partial.toFile());
        MD5FileUtil.saveMD5File(file.toFile(), digest);
        Files.move(partial, file, StandardCopyOption.ATOMIC_MOVE);
        sync(file.getParent(), StandardOpenOption.READ);
        storage.updateLatestSnapshot(new SingleFileSnapshotInfo(new FileInfo(file, digest), at));
        return at.getIndex();
    }

    private static void sync(Path path, StandardOpenOption how) throws IOException {
        try (FileChannel channel = FileChannel.open(path, how)) {
            channel.force(true);
        }
    }

    @Override
    public SimpleStateMachineStorage getStateMachineStorage() {
        return storage;
    }

    @Override
    public synchronized CompletableFuture<Message> applyTransaction(TransactionContext context) {
        LogEntryProto entry = context.getLogEntry();
        String command = entry.getStateMachineLogEntry().getLogData().toStringUtf8();
        String result = carryOut(SplitbrainNode.items(command));
        updateLastAppliedTermIndex(entry.getTerm(), entry.getIndex());
        return CompletableFuture.completedFuture(Message.valueOf(result));
    }

    @Override
    public synchronized CompletableFuture<Message> query(Message request) {
        List<String> command = SplitbrainNode.items(request.getContent().toStringUtf8());
        return CompletableFuture.completedFuture(Message.valueOf(carryOut(command)));
    }

    /** Carries out a read, write or cas. */
    private String carryOut(List<String> command) {
        String key = command.get(1);
        if (command.get(0).equals("\"write\"")) {
            values.put(key, command.get(2));
            return "[]";
        }
        String held = values.get(key);
        if (held == null) return refusal(20, "there is no key " + key);
        if (command.get(0).equals("\"read\"")) return "[" + held + "]";
        String from = command.get(2);
        if (!held.equals(from)) return refusal(22, "expected " + from + ", but it is " + held);
        values.put(key, command.get(3));
        return "[]";
    }

    private static String refusal(int code, String text) {
        return "[" + code + "," + SplitbrainNode.quote(text) + "]";
    }
}
