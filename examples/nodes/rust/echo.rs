//! rustc --edition 2021 -O examples/nodes/rust/echo.rs -o /tmp/echo
//! splitbrain run launch:/tmp/echo --workload echo
mod splitbrain_node;
use splitbrain_node::{Body, Node};

fn main() {
    let mut node = Node::new();
    node.on("echo", |_, body| Ok(Body::new().with("echo", body.get("echo")?)));
    node.run();
}
