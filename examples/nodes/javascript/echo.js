// splitbrain run "launch:node examples/nodes/javascript/echo.js" --workload echo

const { Node, fields } = require("./splitbrain_node.js");

const node = new Node();
node.on("echo", (body) => ({ echo: fields(body, "echo").echo }));
node.run();
