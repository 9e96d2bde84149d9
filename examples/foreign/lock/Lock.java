// Locks with leases and fencing tokens, granted by a majority of nodes, in Java.
//
//     javac -d /tmp/lock examples/foreign/lock/Lock.java
//     splitbrain run "launch:java -cp /tmp/lock Lock" --workload lock --set lock.leases=true --nodes 3 --nemesis partition,kill
//
// Promise: tokens of a lock only grow, and a token is refused once a greater one was
// granted, or once it was released, whatever happens to nodes and to their clocks. Whoever
// holds a lock does so for LEASE_MS, give or take what clocks do: that is not promised,
// which is why there are tokens (Kleppmann 2016).
//
// How it works: each node remembers the greatest token of each lock that it granted, until
// when, and whether it was released. To acquire, a node asks all nodes, itself included,
// to grant a token greater than any it has heard of. A node grants it if it granted none as
// great before, and no lease runs. A majority of grants is a lock. To use or release, a
// majority has to say that it granted nothing greater, and that this token is not released.
// Two majorities share a node, so nothing that a majority once said is forgotten. What a
// node says is on its disk before; leases begin anew when it is started again. If too few
// grant a token, nobody is told of it: it holds nothing, but stands in the way for a lease.
//
// Bugs, each by `--bug NAME`:
//
//     half-is-enough         a majority is taken to be half of the nodes
//     use-asks-one           a node answers for the use of a token by itself
//     token-by-clock         a token is the time, and nodes don't compare it
//     token-per-node         a node counts tokens by itself, and nobody compares them
//     released-and-removed   nothing is remembered of a lock that was released
//     expired-and-removed    nothing is remembered of a lock whose lease ran out
//     grants-not-stored      a node that is started again has forgotten its grants
//     ack-before-fsync       no node waits for its disk

import java.io.*;
import java.net.*;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.*;
import java.util.*;
import java.util.concurrent.*;
import java.util.concurrent.atomic.AtomicLong;
import java.util.regex.*;

public class Lock {
    static final long LEASE_MS = 300;
    static final int PATIENCE_MS = 600, CONNECT_MS = 200, WAITING_MAX = 20, LINE_MAX = 1 << 20;

    static final String NAME = System.getenv("SPLITBRAIN_NODE");
    static String bug = "";
    static final Map<String, InetSocketAddress> peers = new TreeMap<>();
    static final AtomicLong tokens = new AtomicLong(); // the greatest that this node heard of

    // --- what a node remembers ------------------------------------------------------------

    static class Grant {
        long token;
        boolean released;
        long until; // in nanoseconds of the clock that only goes forward; not on disk

        boolean runs() {
            return token > 0 && !released && until - System.nanoTime() > 0;
        }
    }

    static final Map<String, Grant> grants = new HashMap<>(); // by key, as it is written
    static FileChannel journal;

    static void open(Path path) throws IOException {
        journal = FileChannel.open(path, StandardOpenOption.CREATE, StandardOpenOption.READ, StandardOpenOption.WRITE);
        byte[] bytes = Files.readAllBytes(path);
        // What lies behind the last whole line was never answered; a loss of power may leave
        // any part of it.
        int whole = 0;
        for (int at = 0; at < bytes.length; at++) {
            if (bytes[at] != '\n') continue;
            Map<String, String> entry = object(new String(bytes, whole, at - whole, StandardCharsets.UTF_8));
            if (entry == null || !entry.keySet().containsAll(Set.of("key", "token", "released"))) break;
            whole = at + 1;
            if (bug.equals("grants-not-stored")) continue;
            Grant grant = new Grant();
            grant.token = Long.parseLong(entry.get("token"));
            grant.released = entry.get("released").equals("true");
            grant.until = System.nanoTime() + LEASE_MS * 1_000_000;
            if (grant.token == 0) grants.remove(entry.get("key"));
            else grants.put(entry.get("key"), grant);
            tokens.accumulateAndGet(grant.token, Math::max);
        }
        journal.truncate(whole);
        journal.position(whole);
        journal.force(true);
        try (FileChannel folder = FileChannel.open(path.getParent(), StandardOpenOption.READ)) {
            folder.force(true);
        }
    }

    static void keep(String key, long token, boolean released) {
        String line = "{\"key\":" + key + ",\"token\":" + token + ",\"released\":" + released + "}\n";
        try {
            var bytes = java.nio.ByteBuffer.wrap(line.getBytes(StandardCharsets.UTF_8));
            while (bytes.hasRemaining()) journal.write(bytes);
            if (!bug.equals("ack-before-fsync")) journal.force(false);
        } catch (IOException failed) {
            // Nobody knows what is on the disk now. A restart reads it.
            System.err.println("the journal can't be written: " + failed);
            Runtime.getRuntime().halt(1);
        }
    }

    static void forget(String key) {
        grants.remove(key);
        keep(key, 0, false);
    }

    static synchronized Grant known(String key) {
        Grant known = grants.computeIfAbsent(key, __ -> new Grant());
        if (!bug.equals("expired-and-removed") || known.token == 0 || known.runs()) return known;
        forget(key);
        return known(key);
    }

    // What this node says to a token: null for yes, or why not. One at a time.
    static synchronized String say(String what, String key, long token) {
        Grant known = known(key);
        boolean runs = known.runs();
        if (what.equals("grant")) {
            boolean compares = !bug.startsWith("token-");
            if (runs || compares && known.token >= token) return "it is held";
            known.token = token;
            known.released = false;
            known.until = System.nanoTime() + LEASE_MS * 1_000_000;
            keep(key, token, false);
            if (!bug.equals("token-per-node")) tokens.accumulateAndGet(token, Math::max);
            return null;
        }
        if (known.token > token || known.token == token && known.released) return "it holds nothing";
        if (what.equals("release")) {
            known.token = token;
            known.released = true;
            if (bug.equals("released-and-removed")) forget(key);
            else keep(key, token, true);
        }
        return null;
    }

    // --- one client's requests --------------------------------------------------------------

    static class Coordinator {
        final Map<String, Link> links = new TreeMap<>();
        long lastId;

        Coordinator() {
            for (String peer : peers.keySet()) links.put(peer, new Link(peer));
        }

        String answer(String type, String key, long token) {
            if (type.equals("acquire")) {
                token = newToken(key);
                Boolean granted = majority("grant", key, token);
                // Nobody is told of this token, whoever granted it: the lock was not acquired.
                if (granted == null) return error(11, "no majority answers");
                if (!granted) return error(22, "somebody holds it");
                return "\"type\":\"acquire_ok\",\"token\":" + token;
            }
            if (type.equals("use") && bug.equals("use-asks-one")) {
                String no = say("use", key, token);
                return no == null ? "\"type\":\"use_ok\"" : error(22, no);
            }
            Boolean agreed = majority(type, key, token);
            if (agreed == null) return error(type.equals("use") ? 11 : 0, "no majority answers");
            // A release that too few agreed to may be what others will hear of.
            if (!agreed) return error(22, "the token does not hold the lock");
            return "\"type\":\"" + type + "_ok\"";
        }

        // A token that no other node makes, nor this one again unless nobody granted it.
        long newToken(String key) {
            List<String> names = new ArrayList<>(peers.keySet());
            names.add(NAME);
            Collections.sort(names);
            int nodes = names.size(), place = names.indexOf(NAME);
            if (bug.equals("token-by-clock")) return System.currentTimeMillis() * nodes + place;
            if (bug.endsWith("-and-removed")) return (known(key).token / nodes + 1) * nodes + place;
            return tokens.updateAndGet(last -> (last / nodes + 1) * nodes + place);
        }

        // Whether most nodes say yes; null if it isn't known, as too few answer in time.
        Boolean majority(String what, String key, long token) {
            int nodes = peers.size() + 1;
            int needed = bug.equals("half-is-enough") ? nodes / 2 : nodes / 2 + 1;
            String id = String.valueOf(++lastId);
            String body = "\"type\":\"" + what + "-here\",\"key\":" + key + ",\"token\":" + token;
            BlockingQueue<String> answers = new LinkedBlockingQueue<>();
            for (Link link : links.values()) link.send(body, id, answers);
            int yes = 0, no = 0;
            if (say(what, key, token) == null) yes++;
            else no++;
            long end = System.nanoTime() + PATIENCE_MS * 1_000_000L;
            while (yes < needed && no <= nodes - needed) {
                String answer;
                try {
                    answer = answers.poll(end - System.nanoTime(), TimeUnit.NANOSECONDS);
                } catch (InterruptedException ended) {
                    return null;
                }
                if (answer == null) return null;
                if (answer.contains("\"yes\"")) yes++;
                else no++;
            }
            return yes >= needed;
        }

        void close() {
            for (Link link : links.values()) link.close();
        }
    }

    // A connection to a peer, made when it is needed. A thread of its own hands out answers.
    static class Link {
        final String peer;
        volatile Socket socket;
        final Map<String, BlockingQueue<String>> waiting = new ConcurrentHashMap<>();
        final ExecutorService sender = Executors.newSingleThreadExecutor(Lock::daemon);

        Link(String peer) {
            this.peer = peer;
        }

        void send(String body, String id, BlockingQueue<String> answers) {
            // A peer that took nothing for a while gets a new connection, and nothing of old.
            if (waiting.size() > WAITING_MAX) hangUp();
            waiting.put(id, answers);
            sender.execute(() -> {
                try {
                    if (socket == null || socket.isClosed()) connect();
                    String line = message(peer, body, "msg_id", id);
                    socket.getOutputStream().write(line.getBytes(StandardCharsets.UTF_8));
                } catch (IOException lost) {
                    hangUp();
                }
            });
        }

        void connect() throws IOException {
            Socket fresh = new Socket();
            socket = fresh;
            fresh.setTcpNoDelay(true);
            fresh.connect(peers.get(peer), CONNECT_MS);
            daemon(() -> {
                try (var lines = reader(fresh)) {
                    for (String line; (line = lines.readLine()) != null; ) {
                        Map<String, String> body = object(line) == null ? null : object(object(line).get("body"));
                        var answers = body == null ? null : waiting.remove(body.get("in_reply_to"));
                        if (answers != null) answers.add(body.getOrDefault("says", ""));
                    }
                } catch (IOException lost) {
                    // The next request makes a new connection.
                } finally {
                    quietly(fresh);
                }
            }).start();
        }

        void hangUp() {
            waiting.clear();
            Socket old = socket;
            if (old != null) quietly(old);
        }

        void close() {
            sender.shutdownNow();
            hangUp();
        }
    }

    // --- messages -----------------------------------------------------------------------------

    static String handle(Coordinator coordinator, Map<String, String> body) {
        String type = unquoted(body.getOrDefault("type", ""));
        String what = type.replace("-here", "");
        if (!Set.of("acquire", "use", "release", "grant-here", "use-here", "release-here").contains(type))
            return error(10, "this is not supported");
        if (!body.containsKey("key")) return error(12, "there is no key in the request");
        String token = body.getOrDefault("token", type.equals("acquire") ? "0" : "");
        if (!token.matches("-?[0-9]{1,18}")) return error(12, "there is no token in the request");
        if (!type.endsWith("-here")) return coordinator.answer(type, body.get("key"), Long.parseLong(token));
        String no = say(what, body.get("key"), Long.parseLong(token));
        return "\"type\":\"" + what + "_ok\",\"says\":\"" + (no == null ? "yes" : "no") + "\"";
    }

    static void serve(Socket socket) {
        Coordinator coordinator = new Coordinator();
        try (var lines = reader(socket)) {
            for (String line; (line = lines.readLine()) != null && line.length() <= LINE_MAX; ) {
                Map<String, String> message = object(line);
                Map<String, String> body = message == null ? null : object(message.get("body"));
                if (body == null || !message.containsKey("src") || !body.containsKey("msg_id")) continue;
                String answer = handle(coordinator, body);
                String reply = message(unquoted(message.get("src")), answer, "in_reply_to", body.get("msg_id"));
                socket.getOutputStream().write(reply.getBytes(StandardCharsets.UTF_8));
            }
        } catch (IOException gone) {
            // The other side hung up.
        } finally {
            coordinator.close();
            quietly(socket);
        }
    }

    static String message(String dest, String body, String id, String value) {
        return "{\"src\":\"" + NAME + "\",\"dest\":\"" + dest + "\",\"body\":{" + body + ",\"" + id + "\":" + value + "}}\n";
    }

    static String error(int code, String text) {
        return "\"type\":\"error\",\"code\":" + code + ",\"text\":\"" + text + "\"";
    }

    static final Pattern MEMBER =
        Pattern.compile("\\s*\"([^\"]*)\"\\s*:\\s*(\"(?:[^\"\\\\]|\\\\.)*\"|\\{(?:[^{}\"]|\"(?:[^\"\\\\]|\\\\.)*\"|\\{[^{}]*\\})*\\}|[^,{}\"]+)\\s*([,}])");

    // The members of a JSON object, each as the text it is written as; null for anything else.
    static Map<String, String> object(String text) {
        if (text == null || !text.trim().startsWith("{")) return null;
        Map<String, String> out = new HashMap<>();
        Matcher member = MEMBER.matcher(text.trim());
        for (int at = 1; member.find(at) && member.start() == at; at = member.end()) {
            out.put(member.group(1), member.group(2).trim());
            if (member.group(3).equals("}")) return out;
        }
        return null;
    }

    static String unquoted(String text) {
        return text.startsWith("\"") ? text.substring(1, text.length() - 1) : text;
    }

    static BufferedReader reader(Socket socket) throws IOException {
        return new BufferedReader(new InputStreamReader(socket.getInputStream(), StandardCharsets.UTF_8));
    }

    static void quietly(Socket socket) {
        try {
            socket.close();
        } catch (IOException alreadyLost) {
            // That is what we wanted.
        }
    }

    static Thread daemon(Runnable work) {
        Thread thread = new Thread(work);
        thread.setDaemon(true);
        return thread;
    }

    static InetSocketAddress address(String text) {
        int colon = text.lastIndexOf(':');
        return new InetSocketAddress(text.substring(0, colon), Integer.parseInt(text.substring(colon + 1)));
    }

    public static void main(String[] args) throws IOException {
        if (args.length == 2 && args[0].equals("--bug")) bug = args[1];
        object(System.getenv("SPLITBRAIN_PEERS")).forEach((peer, at) -> peers.put(peer, address(unquoted(at))));
        open(Path.of(System.getenv("SPLITBRAIN_DATA"), "journal.jsonl"));
        try (ServerSocket listener = new ServerSocket()) {
            listener.setReuseAddress(true);
            listener.bind(address(System.getenv("SPLITBRAIN_LISTEN")), 100);
            while (true) {
                Socket socket = listener.accept();
                socket.setTcpNoDelay(true);
                daemon(() -> serve(socket)).start();
            }
        }
    }
}
