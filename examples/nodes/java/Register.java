// A register service: the first node by name has the data, the others pass requests on.
//
//     cd examples/nodes/java && javac -d /tmp/nodes Register.java SplitbrainNode.java
//     splitbrain run "launch:java -cp /tmp/nodes Register" --nemesis partition,kill,pause
//
// It is linearizable because one process does everything, one request at a time. Nothing is
// replicated, so nothing works while the owner is down or cut off: it is safe, but not available.
// Replace it by a protocol of your own, and let splitbrain tell you whether it is still
// linearizable.

public class Register extends SplitbrainNode {
    private static final int PATIENCE_MS = 1000;

    private final String owner = names.get(0);
    private final Journal journal;

    private Register() throws Exception {
        journal = name.equals(owner) ? new Journal(data.resolve("journal.jsonl")) : null;
        on("status", body -> {
            String role = quote(journal != null ? "leader" : "follower");
            return new Body().with("role", role).with("term", "1").with("leader", quote(owner));
        });
        for (String kind : new String[] {"read", "write", "cas"}) {
            on(kind, body -> journal != null ? carryOut(kind, body) : call(owner, body, PATIENCE_MS));
        }
    }

    /** One at a time: that order is what makes it linearizable. */
    private synchronized Body carryOut(String kind, Body body) {
        String key = body.get("key");
        if (kind.equals("write")) {
            journal.put(key, body.get("value"));
            return new Body();
        }
        String from = kind.equals("cas") ? body.get("from") : null;
        String to = kind.equals("cas") ? body.get("to") : null;
        String value = journal.values.get(key);
        if (value == null) throw new Failure(20, "there is no key " + key);
        if (kind.equals("read")) return new Body().with("value", value);
        if (!from.equals(value)) throw new Failure(22, "expected " + from + ", but it is " + value);
        journal.put(key, to);
        return new Body();
    }

    public static void main(String[] arguments) throws Exception {
        new Register().run();
    }
}
