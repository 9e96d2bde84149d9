package main

import (
	"encoding/json"
	"io"
	"log"
	"net"
	"strconv"

	"github.com/hashicorp/raft"
)

// snapshot is the state at one place in the log, as JSON.
type snapshot []byte

// Snapshot copies the state.
func (r *registers) Snapshot() (raft.FSMSnapshot, error) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	return snapshot(JSON(r.values)), nil
}

// Restore takes a snapshot in place of the state.
func (r *registers) Restore(from io.ReadCloser) error {
	defer from.Close()
	values := map[string]json.RawMessage{}
	if err := json.NewDecoder(from).Decode(&values); err != nil {
		return err
	}
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.values = values
	return nil
}

// Persist writes the copy.
func (s snapshot) Persist(sink raft.SnapshotSink) error {
	if _, err := sink.Write(s); err != nil {
		sink.Cancel()
		return err
	}
	return sink.Close()
}

// Release has nothing to do: the copy is nobody else's.
func (s snapshot) Release() {}

// peerAddress is the address for peers of a node that serves clients at host:port.
func peerAddress(listen string) string {
	host, port, err := net.SplitHostPort(listen)
	check(err)
	number, err := strconv.Atoi(port)
	check(err)
	return net.JoinHostPort(host, strconv.Itoa(number+1))
}

// check ends the node: it can't go on.
func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
