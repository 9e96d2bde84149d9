// g++ -std=c++17 -O2 -pthread examples/nodes/cpp/echo.cpp -o /tmp/echo
// splitbrain run launch:/tmp/echo --workload echo
#include "splitbrain_node.hpp"

int main() {
  splitbrain::Node node;
  node.on("echo", [](const splitbrain::Body& body) {
    return splitbrain::Body{{"echo", body.get("echo")}};
  });
  node.run();
}
