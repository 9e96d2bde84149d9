// A register service: the first node by name has the data, the others pass requests on.
//
//	cd examples/nodes/go && go build -o /tmp/register register.go splitbrain_node.go
//	splitbrain run launch:/tmp/register --nemesis partition,kill,pause
//
// It is linearizable because one process does everything, one request at a time. Nothing is
// replicated, so nothing works while the owner is down or cut off: it is safe, but not
// available. Replace it by a protocol of your own, and let splitbrain tell you whether it is
// still linearizable.
package main

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"sync"
	"time"
)

func main() {
	node := NewNode()
	owner := node.Names[0]
	node.On("status", func(Body) (Body, error) {
		role := map[bool]string{true: "leader", false: "follower"}[node.Name == owner]
		return Body{"role": JSON(role), "term": JSON(1), "leader": JSON(owner)}, nil
	})
	serve := func(body Body) (Body, error) { return node.Call(owner, body, time.Second) }
	if node.Name == owner {
		serve = registers(OpenJournal(filepath.Join(node.Data, "journal.jsonl")))
	}
	for _, kind := range []string{"read", "write", "cas"} {
		node.On(kind, serve)
	}
	node.Run()
}

// registers carries out requests on the owner, one at a time: that order is what makes them
// linearizable.
func registers(journal *Journal) Handler {
	var mutex sync.Mutex
	return func(body Body) (Body, error) {
		mutex.Lock()
		defer mutex.Unlock()
		key := body.Get("key")
		if body.Text("type") == "write" {
			journal.Put(key, body.Get("value"))
			return nil, nil
		}
		var from, to json.RawMessage
		if body.Text("type") == "cas" {
			from, to = body.Get("from"), body.Get("to")
		}
		value, ok := journal.Values[string(key)]
		if !ok {
			return nil, Failure{20, fmt.Sprintf("there is no key %s", key)}
		}
		if body.Text("type") == "read" {
			return Body{"value": value}, nil
		}
		if string(from) != string(value) {
			return nil, Failure{22, fmt.Sprintf("expected %s, but it is %s", from, value)}
		}
		journal.Put(key, to)
		return nil, nil
	}
}
