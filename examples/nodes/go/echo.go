// go build -o /tmp/echo examples/nodes/go/echo.go examples/nodes/go/splitbrain_node.go
// splitbrain run launch:/tmp/echo --workload echo
package main

func main() {
	node := NewNode()
	node.On("echo", func(body Body) (Body, error) {
		return Body{"echo": body.Get("echo")}, nil
	})
	node.Run()
}
