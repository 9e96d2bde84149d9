// javac -d /tmp/nodes examples/nodes/java/Echo.java examples/nodes/java/SplitbrainNode.java
// splitbrain run "launch:java -cp /tmp/nodes Echo" --workload echo
public class Echo {
    public static void main(String[] arguments) throws Exception {
        var node = new SplitbrainNode();
        node.on("echo", body -> new SplitbrainNode.Body().with("echo", body.get("echo")));
        node.run();
    }
}
