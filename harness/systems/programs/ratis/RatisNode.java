// A node on Apache Ratis: registers that are replicated by its log, behind WIRE.md.
//
//     java RatisNode --reads=log|linearizable|lease|leader|stale --flush=sync|async|unsafe
//
// Clients are served at SPLITBRAIN_LISTEN, and the library talks to its peers at the ports above.
// Writes, and reads that only a leader answers, are passed on to the node that leads, as far as
// this one knows. No request is tried a second time.

import java.io.File;
import java.util.ArrayList;
import java.util.List;
import java.util.UUID;
import java.util.concurrent.CompletionException;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.ratis.conf.RaftProperties;
import org.apache.ratis.grpc.GrpcConfigKeys;
import org.apache.ratis.protocol.ClientId;
import org.apache.ratis.protocol.Message;
import org.apache.ratis.protocol.RaftClientReply;
import org.apache.ratis.protocol.RaftClientRequest;
import org.apache.ratis.protocol.RaftGroup;
import org.apache.ratis.protocol.RaftGroupId;
import org.apache.ratis.protocol.RaftPeer;
import org.apache.ratis.protocol.RaftPeerId;
import org.apache.ratis.protocol.exceptions.LeaderNotReadyException;
import org.apache.ratis.protocol.exceptions.LeaderSteppingDownException;
import org.apache.ratis.protocol.exceptions.ServerNotReadyException;
import org.apache.ratis.server.DivisionInfo;
import org.apache.ratis.server.RaftServer;
import org.apache.ratis.server.RaftServerConfigKeys;
import org.apache.ratis.server.RaftServerConfigKeys.Read;
import org.apache.ratis.server.storage.RaftStorage;
import org.apache.ratis.util.SizeInBytes;
import org.apache.ratis.util.TimeDuration;

/** A node: the library, and the state that its log makes. */
public class RatisNode {
    private static final int ELECTION_MS_MIN = 500;
    private static final int ELECTION_MS_MAX = 1000;
    private static final int STEPPED_DOWN_MS = 1000; // before it may stand again
    private static final int REQUEST_MS = 2000;
    private static final int SNAPSHOT_ENTRIES = 5000;

    private final SplitbrainNode node = new SplitbrainNode();
    private final RaftGroupId group = RaftGroupId.valueOf(new UUID(0, 1));
    private final ClientId ourselves = ClientId.randomId(); // Another at each start.
    private final AtomicLong lastCall = new AtomicLong();
    private final String reads;
    private final RaftServer server;
    private volatile RaftServer.Division division; // null while the library starts

    public static void main(String[] args) throws Exception {
        new RatisNode(option(args, "reads"), option(args, "flush")).run();
    }

    private static String option(String[] args, String name) {
        String flag = "--" + name + "=";
        for (String arg : args) {
            if (arg.startsWith(flag)) return arg.substring(flag.length());
        }
        throw new IllegalArgumentException(flag + " is missing");
    }

    private RatisNode(String reads, String flush) throws Exception {
        this.reads = reads;
        List<RaftPeer> members = new ArrayList<>();
        for (String name : node.names) members.add(member(name));
        server =
            RaftServer.newBuilder()
                .setServerId(RaftPeerId.valueOf(node.name))
                .setGroup(RaftGroup.valueOf(group, members))
                .setProperties(properties(flush))
                .setStateMachine(new Registers())
                .setOption(RaftStorage.StartupOption.RECOVER)
                .build();
    }

    private RaftPeer member(String name) {
        String listen =
            name.equals(node.name) ? System.getenv("SPLITBRAIN_LISTEN") : node.peers.get(name);
        return RaftPeer.newBuilder().setId(name).setAddress(peerAddress(listen)).build();
    }

    /** The address for peers of a node that serves clients at host:port. */
    private static String peerAddress(String listen) {
        int colon = listen.lastIndexOf(':');
        return listen.substring(0, colon + 1) + (Integer.parseInt(listen.substring(colon + 1)) + 1);
    }

    private RaftProperties properties(String flush) {
        RaftProperties set = new RaftProperties();
        String own = member(node.name).getAddress();
        int colon = own.lastIndexOf(':');
        GrpcConfigKeys.Server.setHost(set, own.substring(0, colon));
        GrpcConfigKeys.Server.setPort(set, Integer.parseInt(own.substring(colon + 1)));
        File folder = node.data.resolve("raft").toFile();
        RaftServerConfigKeys.setStorageDir(set, List.of(folder));

        RaftServerConfigKeys.Rpc.setTimeoutMin(set, ms(ELECTION_MS_MIN));
        RaftServerConfigKeys.Rpc.setTimeoutMax(set, ms(ELECTION_MS_MAX));
        RaftServerConfigKeys.Rpc.setRequestTimeout(set, ms(REQUEST_MS));

        RaftServerConfigKeys.LeaderElection.setLeaderStepDownWaitTime(set, ms(STEPPED_DOWN_MS));

        boolean linearizable = reads.equals("linearizable") || reads.equals("lease");
        Read.setOption(set, linearizable ? Read.Option.LINEARIZABLE : Read.Option.DEFAULT);
        Read.setLeaderLeaseEnabled(set, reads.equals("lease"));
        Read.setTimeout(set, ms(REQUEST_MS));

        RaftServerConfigKeys.Log.setAsyncFlushEnabled(set, flush.equals("async"));
        RaftServerConfigKeys.Log.setUnsafeFlushEnabled(set, flush.equals("unsafe"));
        // Small enough for a small heap, and for disks that the harness serves.
        RaftServerConfigKeys.Log.setPreallocatedSize(set, SizeInBytes.valueOf("64KB"));
        RaftServerConfigKeys.Log.Appender.setBufferByteLimit(set, SizeInBytes.valueOf("2MB"));
        RaftServerConfigKeys.Log.setWriteBufferSize(set, SizeInBytes.valueOf("3MB"));

        RaftServerConfigKeys.Snapshot.setAutoTriggerEnabled(set, true);
        RaftServerConfigKeys.Snapshot.setAutoTriggerThreshold(set, SNAPSHOT_ENTRIES);
        RaftServerConfigKeys.Snapshot.setRetentionFileNum(set, 2);
        return set;
    }

    private static TimeDuration ms(int number) {
        return TimeDuration.valueOf(number, TimeUnit.MILLISECONDS);
    }

    /** Clients are served, and refused, while the library is still reading its log. */
    private void run() throws Exception {
        for (String kind : List.of("read", "write", "cas")) node.on(kind, this::serve);
        node.on("forwarded", this::lead);
        node.on("status", body -> status());
        new Thread(this::start, "start").start();
        node.run();
    }

    private void start() {
        try {
            server.start();
            division = server.getDivision(group);
        } catch (Exception error) {
            error.printStackTrace();
            Runtime.getRuntime().halt(1);
        }
    }

    /** Answers a client. */
    private SplitbrainNode.Body serve(SplitbrainNode.Body body) throws Exception {
        if (body.text("type").equals("read") && !reads.equals("log") && !reads.equals("leader")) {
            return read(body);
        }
        RaftPeerId leader = info().getLeaderId();
        if (leader == null) throw new SplitbrainNode.Failure(11, "no leader is known");
        SplitbrainNode.Body passed =
            new SplitbrainNode.Body()
                .with("type", SplitbrainNode.quote("forwarded"))
                .with("command", SplitbrainNode.quote(command(body)));
        SplitbrainNode.Body answer = node.call(leader.toString(), passed, REQUEST_MS);
        return answered(answer.text("result"));
    }

    /** What goes to the state machine: as JSON, a list of the request's type and fields. */
    private static String command(SplitbrainNode.Body body) {
        String fields =
            switch (body.text("type")) {
                case "read" -> body.get("key");
                case "write" -> body.get("key") + "," + body.get("value");
                default -> body.get("key") + "," + body.get("from") + "," + body.get("to");
            };
        return "[" + SplitbrainNode.quote(body.text("type")) + "," + fields + "]";
    }

    /** The answer to a request of which the state machine said `[]`, `[value]` or `[code, text]`. */
    private static SplitbrainNode.Body answered(String result) {
        List<String> told = SplitbrainNode.items(result);
        if (told.size() == 2) {
            String text = new SplitbrainNode.Body().with("text", told.get(1)).text("text");
            throw new SplitbrainNode.Failure(Integer.parseInt(told.get(0)), text);
        }
        SplitbrainNode.Body answer = new SplitbrainNode.Body();
        return told.isEmpty() ? answer : answer.with("value", told.get(0));
    }

    /** Answers a request that another node, or this one, passed on to the leader. */
    private SplitbrainNode.Body lead(SplitbrainNode.Body body) throws Exception {
        String command = body.text("command");
        boolean isRead = SplitbrainNode.items(command).get(0).equals("\"read\"");
        if (!info().isLeader()) throw new SplitbrainNode.Failure(11, "this node does not lead");
        RaftClientRequest.Type type =
            isRead && reads.equals("leader")
                ? RaftClientRequest.readRequestType()
                : RaftClientRequest.writeRequestType();
        String result = submit(command, type, isRead);
        return new SplitbrainNode.Body().with("result", SplitbrainNode.quote(result));
    }

    /** A read that the library answers on whatever node is asked. */
    private SplitbrainNode.Body read(SplitbrainNode.Body body) throws Exception {
        info();
        RaftClientRequest.Type type =
            reads.equals("stale")
                ? RaftClientRequest.staleReadRequestType(0)
                : RaftClientRequest.readRequestType();
        return answered(submit(command(body), type, true));
    }

    /**
     * What the state machine says to a command.
     *
     * @throws SplitbrainNode.Failure it was not carried out (11), or nobody knows (0).
     */
    private String submit(String command, RaftClientRequest.Type type, boolean isRead)
        throws Exception {
        RaftClientRequest request =
            RaftClientRequest.newBuilder()
                .setClientId(ourselves)
                .setServerId(RaftPeerId.valueOf(node.name))
                .setGroupId(group)
                .setCallId(lastCall.incrementAndGet())
                .setMessage(Message.valueOf(command))
                .setType(type)
                .build();
        Throwable error;
        try {
            RaftClientReply reply =
                server.submitClientRequestAsync(request).get(REQUEST_MS, TimeUnit.MILLISECONDS);
            if (reply.isSuccess()) return reply.getMessage().getContent().toStringUtf8();
            error = reply.getException();
        } catch (ExecutionException | CompletionException failed) {
            error = failed.getCause();
        } catch (TimeoutException late) {
            error = late;
        }
        throw new SplitbrainNode.Failure(isRead || isDefinite(error) ? 11 : 0, "" + error);
    }

    /**
     * Tells errors that are given before an entry is in the leader's log. NotLeaderException is none
     * of them: entries that wait for a majority get it, too, when their leader steps down.
     */
    private static boolean isDefinite(Throwable error) {
        return error instanceof LeaderNotReadyException
            || error instanceof LeaderSteppingDownException
            || error instanceof ServerNotReadyException;
    }

    private SplitbrainNode.Body status() {
        DivisionInfo info = info();
        String role = info.isLeader() ? "leader" : info.isCandidate() ? "candidate" : "follower";
        boolean isKnown = info.getLeaderId() != null && (!info.isLeader() || info.isLeaderReady());
        return new SplitbrainNode.Body()
            .with("role", SplitbrainNode.quote(role))
            .with("term", "" + info.getCurrentTerm())
            .with("leader", SplitbrainNode.quote(isKnown ? info.getLeaderId().toString() : ""));
    }

    private DivisionInfo info() {
        RaftServer.Division started = division;
        if (started == null) throw new SplitbrainNode.Failure(11, "this node is starting");
        return started.getInfo();
    }
}
