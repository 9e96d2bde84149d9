// The wire of splitbrain (WIRE.md) for nodes in Java: copy this file beside yours.
//
//     var node = new SplitbrainNode();
//     node.on("echo", body -> new Body().with("echo", body.get("echo")));
//     node.run();
//
// Needs Java 17 or later and nothing else. A handler gets the body of a request and returns that of
// the answer, whose type is filled in. What it throws is the error that is answered: a Failure with
// its code; anything else is 13 (crash), which leaves open whether the operation happened. Handlers
// run side by side, on a thread for each connection: guard what they share.
//
// Fields are kept as the JSON text they came in, so whatever a client wrote is what a reader gets,
// however large its numbers are.

import java.io.BufferedInputStream;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.net.SocketTimeoutException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.time.Instant;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Collections;
import java.util.Deque;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;

/** This node: its name, its peers, its directory, and what it answers. */
public class SplitbrainNode {
    private static final int LINE_BYTES_MAX = 1 << 20;
    private static final int NESTING_MAX = 500;

    public final String name = env("SPLITBRAIN_NODE");
    public final Path data = Path.of(env("SPLITBRAIN_DATA"));
    public final Map<String, String> peers = new TreeMap<>(); // name -> "host:port"
    public final List<String> names = new ArrayList<>(); // of all nodes, sorted
    public final int majority;

    private final Map<String, Handler> handlers = new HashMap<>();
    private final Map<String, Deque<Link>> idle = new HashMap<>();
    private final ExecutorService threads = Executors.newCachedThreadPool();

    /** Answers requests of a type. */
    public interface Handler {
        Body answer(Body request) throws Exception;
    }

    /** An answer of type error; its code says whether anything may have happened. */
    @SuppressWarnings("serial")
    public static class Failure extends RuntimeException {
        public final int code;

        public Failure(int code, String text) {
            super(text);
            this.code = code;
        }
    }

    /** Reads what the environment says of this node. */
    public SplitbrainNode() {
        Body told = Body.parse(env("SPLITBRAIN_PEERS"));
        for (String peer : told.fields.keySet()) peers.put(peer, told.text(peer));
        names.add(name);
        names.addAll(peers.keySet());
        Collections.sort(names);
        majority = names.size() / 2 + 1;
        on("clock", body -> {
            Instant now = Instant.now();
            long wallNs = now.getEpochSecond() * 1_000_000_000L + now.getNano();
            return new Body().with("wall_ns", "" + wallNs).with("mono_ns", "" + System.nanoTime());
        });
    }

    /** Have a handler answer requests of a type. */
    public void on(String kind, Handler handler) {
        handlers.put(kind, handler);
    }

    /**
     * The answer of a peer, or of this node itself.
     *
     * @throws Failure the peer's own; 11, and it never got the request, as there is no connection;
     *     0, and nobody knows whether it did.
     */
    public Body call(String peer, Body body, int timeoutMs) throws Exception {
        if (peer.equals(name)) return handle(body);
        Link link = idleLink(peer);
        if (link == null) {
            try {
                link = new Link(address(peers.get(peer)), timeoutMs);
            } catch (IOException error) {
                throw new Failure(11, peer + " can't be reached"); // Nothing was sent: definite.
            }
        }
        // From here on the peer may have the request: no answer is an indefinite error, and the
        // connection, on which the answer may still come, is not used again.
        Body answer;
        try {
            answer = link.ask(name, peer, body, timeoutMs);
        } catch (IOException | Failure | IllegalArgumentException error) {
            link.socket.close();
            throw new Failure(0, peer + " did not answer");
        }
        synchronized (idle) {
            idle.computeIfAbsent(peer, p -> new ArrayDeque<>()).push(link);
        }
        if (answer.text("type").equals("error")) {
            throw new Failure((int) answer.number("code"), answer.text("text"));
        }
        return answer;
    }

    /**
     * The answers of the nodes that gave one, this one among those asked, once all have answered or
     * failed.
     *
     * @throws Failure 0, they are no majority; the request may have reached some.
     */
    public List<Body> askMajority(Body body, int timeoutMs) {
        List<CompletableFuture<Body>> asked = new ArrayList<>();
        for (String each : names) {
            asked.add(CompletableFuture.supplyAsync(() -> {
                try {
                    return call(each, body, timeoutMs);
                } catch (Exception error) {
                    throw new CompletionException(error);
                }
            }, threads));
        }
        List<Body> answers = new ArrayList<>();
        for (CompletableFuture<Body> answer : asked) {
            try {
                answers.add(answer.join());
            } catch (CompletionException error) {
                continue; // It gave none; the others may be enough.
            }
        }
        if (answers.size() < majority) throw new Failure(0, "a majority did not answer");
        return answers;
    }

    /** Serve clients and peers until killed. */
    public void run() throws IOException {
        InetSocketAddress listen = address(env("SPLITBRAIN_LISTEN"));
        try (ServerSocket server = new ServerSocket()) {
            server.setReuseAddress(true);
            server.bind(listen, 128);
            while (true) {
                Socket socket = server.accept();
                threads.execute(() -> serve(socket));
            }
        }
    }

    private void serve(Socket socket) {
        try (socket) {
            socket.setTcpNoDelay(true);
            InputStream in = new BufferedInputStream(socket.getInputStream());
            for (String line; (line = readLine(in)) != null; ) {
                Body asked;
                String client;
                long id;
                try {
                    Body message = Body.parse(line);
                    asked = Body.parse(message.get("body"));
                    client = message.get("src");
                    id = asked.number("msg_id");
                    asked.text("type");
                } catch (Failure | IllegalArgumentException error) {
                    continue; // No message, or nobody to answer.
                }
                Body answer;
                try {
                    answer = handle(asked);
                } catch (Failure failure) {
                    answer = errorBody(failure.code, failure.getMessage());
                } catch (Exception error) {
                    error.printStackTrace();
                    answer = errorBody(13, error.toString());
                }
                String frame = frame(name, client, answer.with("in_reply_to", "" + id));
                socket.getOutputStream().write(frame.getBytes(StandardCharsets.UTF_8));
            }
        } catch (IOException error) {
            return; // The client is gone, or its line was too long.
        }
    }

    private Body handle(Body body) throws Exception {
        String kind = body.text("type");
        Handler handler = handlers.get(kind);
        if (handler == null) throw new Failure(10, kind + " is not supported");
        return handler.answer(body).with("type", quote(kind + "_ok"));
    }

    private Link idleLink(String peer) throws IOException {
        synchronized (idle) {
            Deque<Link> links = idle.get(peer);
            while (links != null && !links.isEmpty()) {
                Link link = links.pop();
                if (link.isOpen()) return link;
                link.socket.close();
            }
            return null;
        }
    }

    private static Body errorBody(int code, String text) {
        return new Body().with("type", quote("error")).with("code", "" + code).with("text", quote(text));
    }

    private static String frame(String src, String destJson, Body body) {
        return "{\"src\":" + quote(src) + ",\"dest\":" + destJson + ",\"body\":" + body.json() + "}\n";
    }

    private static String env(String name) {
        String value = System.getenv(name);
        if (value == null) throw new IllegalStateException(name + " is not set");
        return value;
    }

    private static InetSocketAddress address(String text) throws IOException {
        int colon = text.lastIndexOf(':');
        InetAddress host = InetAddress.getByName(text.substring(0, colon));
        return new InetSocketAddress(host, Integer.parseInt(text.substring(colon + 1)));
    }

    /** The next line, without its end; null at the end, or if it is too long. */
    private static String readLine(InputStream in) throws IOException {
        ByteArrayOutputStream line = new ByteArrayOutputStream();
        for (int b; (b = in.read()) >= 0; line.write(b)) {
            if (b == '\n') {
                try {
                    ByteBuffer bytes = ByteBuffer.wrap(line.toByteArray());
                    return StandardCharsets.UTF_8.newDecoder().decode(bytes).toString();
                } catch (CharacterCodingException error) {
                    return ""; // No UTF-8, and so no message.
                }
            }
            if (line.size() > LINE_BYTES_MAX) return null;
        }
        return null;
    }

    /** A connection to a peer, for one request at a time. */
    private static class Link {
        final Socket socket = new Socket();
        final InputStream in;
        long lastId = 0;

        Link(InetSocketAddress at, int timeoutMs) throws IOException {
            try {
                socket.connect(at, timeoutMs);
                socket.setTcpNoDelay(true);
            } catch (IOException error) {
                socket.close();
                throw error;
            }
            in = new BufferedInputStream(socket.getInputStream());
        }

        /** False once the peer has closed it, so that nothing is sent into the void. */
        boolean isOpen() {
            try {
                socket.setSoTimeout(1);
                in.mark(1);
                in.read();
                return false; // The end, or an answer that nobody waits for.
            } catch (SocketTimeoutException nothingYet) {
                return true;
            } catch (IOException error) {
                return false;
            }
        }

        Body ask(String src, String peer, Body body, int timeoutMs) throws IOException {
            socket.setSoTimeout(timeoutMs);
            lastId++;
            String frame = frame(src, quote(peer), body.copy().with("msg_id", "" + lastId));
            socket.getOutputStream().write(frame.getBytes(StandardCharsets.UTF_8));
            String line = readLine(in);
            if (line == null) throw new IOException("the connection is lost");
            Body answer = Body.parse(Body.parse(line).get("body"));
            if (answer.number("in_reply_to") != lastId) throw new IOException("another's answer");
            return answer;
        }
    }

    /** A message's body: its fields, as JSON. */
    public static class Body {
        private final Map<String, String> fields = new TreeMap<>();

        /** The fields of a JSON object; throws IllegalArgumentException if it is none. */
        public static Body parse(String json) {
            Scanner scanner = new Scanner(json);
            Body body = new Body();
            scanner.sequence('{', '}', () -> {
                String name = scanner.name();
                body.fields.put(name, scanner.value(0));
            });
            scanner.end();
            return body;
        }

        /** This body, with one more field; its value is JSON (`quote` makes it of a text). */
        public Body with(String field, String json) {
            fields.put(field, json);
            return this;
        }

        /** A field, as JSON; without it, the request is answered with a Failure (12). */
        public String get(String field) {
            String json = fields.get(field);
            if (json == null) throw new Failure(12, "there is no " + field + " in the request");
            return json;
        }

        /** A field that is a string; of another kind, the Failure is 12 as well. */
        public String text(String field) {
            String json = get(field);
            if (json.charAt(0) != '"') throw new Failure(12, field + " is no string");
            return new Scanner(json).string();
        }

        /** A field that is a whole number; of another kind, the Failure is 12 as well. */
        public long number(String field) {
            try {
                return Long.parseLong(get(field));
            } catch (NumberFormatException error) {
                throw new Failure(12, field + " is no whole number");
            }
        }

        private Body copy() {
            Body body = new Body();
            body.fields.putAll(fields);
            return body;
        }

        private String json() {
            StringBuilder text = new StringBuilder("{");
            fields.forEach((field, json) ->
                text.append(text.length() > 1 ? "," : "").append(quote(field)).append(':').append(json));
            return text.append('}').toString();
        }
    }

    /** The elements of a JSON array; throws IllegalArgumentException if it is none. */
    public static List<String> items(String json) {
        Scanner scanner = new Scanner(json);
        List<String> found = new ArrayList<>();
        scanner.sequence('[', ']', () -> found.add(scanner.value(0)));
        scanner.end();
        return found;
    }

    /** A text as JSON. */
    public static String quote(String text) {
        StringBuilder json = new StringBuilder("\"");
        for (char c : text.toCharArray()) {
            if (c == '"' || c == '\\') json.append('\\').append(c);
            else if (c < 0x20 || Character.isSurrogate(c)) json.append(String.format("\\u%04x", (int) c));
            else json.append(c);
        }
        return json.append('"').toString();
    }

    /** Reads JSON (RFC 8259) from left to right; throws IllegalArgumentException if it is none. */
    private static class Scanner {
        private final String text;
        private int at = 0;

        Scanner(String text) {
            this.text = text;
        }

        void end() {
            blanks();
            if (at < text.length()) throw new IllegalArgumentException("no JSON");
        }

        /** A member's name; the scanner stands before the value then. */
        String name() {
            blanks();
            String name = string();
            blanks();
            exactly(':');
            return name;
        }

        /** A value's text, without blanks between its parts. */
        String value(int depth) {
            blanks();
            int from = at;
            switch (peek()) {
                case '{', '[' -> {
                    return nested(depth);
                }
                case '"' -> string();
                case 't' -> word("true");
                case 'f' -> word("false");
                case 'n' -> word("null");
                default -> number();
            }
            return text.substring(from, at);
        }

        /** The members of an object, or the elements of an array, one call of `item` for each. */
        void sequence(char open, char close, Runnable item) {
            blanks();
            exactly(open);
            blanks();
            if (skip(close)) return;
            do {
                item.run();
                blanks();
            } while (skip(','));
            exactly(close);
        }

        private String nested(int depth) {
            if (depth > NESTING_MAX) throw new IllegalArgumentException("nested too deep");
            boolean object = peek() == '{';
            List<String> parts = new ArrayList<>();
            sequence(object ? '{' : '[', object ? '}' : ']', () -> {
                blanks();
                int from = at;
                String name = object ? text.substring(from, nameEnd()) + ":" : "";
                parts.add(name + value(depth + 1));
            });
            String inside = String.join(",", parts);
            return object ? "{" + inside + "}" : "[" + inside + "]";
        }

        private int nameEnd() {
            string();
            int end = at;
            blanks();
            exactly(':');
            return end;
        }

        /** The text of a string. */
        String string() {
            StringBuilder found = new StringBuilder();
            exactly('"');
            while (!skip('"')) {
                char c = peek();
                at++;
                if (c < 0x20) throw new IllegalArgumentException("no JSON");
                found.append(c == '\\' ? escaped() : c);
            }
            return found.toString();
        }

        private char escaped() {
            char c = peek();
            at++;
            int known = "\"\\/bfnrt".indexOf(c);
            if (known >= 0) return "\"\\/\b\f\n\r\t".charAt(known);
            if (c != 'u' || at + 4 > text.length()) throw new IllegalArgumentException("no JSON");
            String digits = text.substring(at, at + 4);
            at += 4;
            if (!digits.matches("[0-9a-fA-F]{4}")) throw new IllegalArgumentException("no JSON");
            return (char) Integer.parseInt(digits, 16);
        }

        private char peek() {
            if (at >= text.length()) throw new IllegalArgumentException("no JSON");
            return text.charAt(at);
        }

        private boolean skip(char c) {
            if (at >= text.length() || text.charAt(at) != c) return false;
            at++;
            return true;
        }

        private void exactly(char c) {
            if (!skip(c)) throw new IllegalArgumentException("no JSON");
        }

        private void blanks() {
            while (skip(' ') || skip('\t') || skip('\r') || skip('\n')) {}
        }

        private void word(String expected) {
            if (!text.startsWith(expected, at)) throw new IllegalArgumentException("no JSON");
            at += expected.length();
        }

        private void digits() {
            int from = at;
            while (at < text.length() && text.charAt(at) >= '0' && text.charAt(at) <= '9') at++;
            if (at == from) throw new IllegalArgumentException("no JSON");
        }

        private void number() {
            skip('-');
            if (!skip('0')) digits();
            if (skip('.')) digits();
            if (skip('e') || skip('E')) {
                if (!skip('+')) skip('-');
                digits();
            }
        }
    }

    /** Values by key, in a file that survives kills and power losses. */
    public static class Journal {
        public final Map<String, String> values = new HashMap<>(); // JSON by the key's JSON
        private final FileChannel file;

        /** Reads a journal, or makes it. */
        public Journal(Path path) throws IOException {
            file = FileChannel.open(
                path, StandardOpenOption.CREATE, StandardOpenOption.READ, StandardOpenOption.WRITE);
            ByteBuffer held = ByteBuffer.allocate((int) file.size());
            while (held.hasRemaining() && file.read(held) >= 0) {}
            // A kill in mid-write leaves a line without an end. Nobody was told that it happened.
            int end = held.position();
            while (end > 0 && held.get(end - 1) != '\n') end--;
            String whole = new String(held.array(), 0, end, StandardCharsets.UTF_8);
            for (String line : whole.isEmpty() ? new String[0] : whole.split("\n")) {
                List<String> entry = items(line);
                values.put(entry.get(0), entry.get(1));
            }
            file.truncate(end);
            file.position(end);
            file.force(true); // What we are about to serve must be durable,
            try (FileChannel folder = FileChannel.open(path.getParent())) {
                folder.force(true); // and so must the file's name.
            }
        }

        /**
         * Durable first, visible second: what somebody has read must survive. A disk that fails ends
         * the process, as nobody knows what is in the file then. A restart reads it.
         */
        public void put(String key, String value) {
            try {
                ByteBuffer line =
                    ByteBuffer.wrap(("[" + key + "," + value + "]\n").getBytes(StandardCharsets.UTF_8));
                while (line.hasRemaining()) file.write(line);
                file.force(false);
            } catch (IOException error) {
                System.err.println("can't write the journal: " + error);
                Runtime.getRuntime().halt(1);
            }
            values.put(key, value);
        }
    }
}
