// A node on hashicorp/raft: registers that are replicated by its log, behind WIRE.md.
//
//	hashicorp_raft --reads=local|leader|verified --store=bolt|bolt-nosync|memory
//
// Clients are served at SPLITBRAIN_LISTEN, and the library talks to its peers at the ports
// above. Writes, and reads that are not local, are passed on to the node that leads, as far
// as this one knows.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	bolt "go.etcd.io/bbolt"
)

const (
	enqueueTimeout = 500 * time.Millisecond
	barrierTimeout = time.Second
	forwardTimeout = 2 * time.Second
)

// server is a node: the library, and the state that its log makes.
type server struct {
	*Node
	raft  *raft.Raft
	store *registers
	reads string
	// caughtUp is the term in which this node has led and applied all entries of earlier ones.
	caughtUp atomic.Uint64
}

func main() {
	reads := flag.String("reads", "verified", "local, leader or verified")
	store := flag.String("store", "bolt", "bolt, bolt-nosync or memory")
	flag.Parse()
	s := &server{Node: NewNode(), reads: *reads, store: newRegisters()}
	s.raft = s.start(*store)
	for _, kind := range []string{"read", "write", "cas"} {
		s.On(kind, s.serve)
	}
	s.On("forwarded", func(body Body) (Body, error) {
		asked := decode[Body]("request", body.Get("request"))
		answer, err := s.lead(asked)
		return Body{"answer": JSON(answer)}, err
	})
	s.On("status", s.status)
	s.Run()
}

// start opens the stores and begins to take part in the cluster.
func (s *server) start(store string) *raft.Raft {
	config := raft.DefaultConfig()
	config.LocalID = raft.ServerID(s.Name)
	config.HeartbeatTimeout = 500 * time.Millisecond
	config.ElectionTimeout = 500 * time.Millisecond
	config.LeaderLeaseTimeout = 250 * time.Millisecond
	config.CommitTimeout = 20 * time.Millisecond
	config.LogLevel = "INFO"

	var logs raft.LogStore
	var stable raft.StableStore
	var snapshots raft.SnapshotStore
	if store == "memory" {
		memory := raft.NewInmemStore()
		logs, stable, snapshots = memory, memory, raft.NewInmemSnapshotStore()
	} else {
		file, err := raftboltdb.New(raftboltdb.Options{
			Path:        filepath.Join(s.Data, "raft.db"),
			NoSync:      store == "bolt-nosync",
			BoltOptions: &bolt.Options{Timeout: time.Second},
		})
		check(err)
		kept, err := raft.NewFileSnapshotStore(s.Data, 2, os.Stderr)
		check(err)
		logs, stable, snapshots = file, file, kept
	}
	own := peerAddress(os.Getenv("SPLITBRAIN_LISTEN"))
	transport, err := raft.NewTCPTransport(own, nil, 3, time.Second, os.Stderr)
	check(err)
	exists, err := raft.HasExistingState(logs, stable, snapshots)
	check(err)
	if !exists {
		check(raft.BootstrapCluster(config, logs, stable, snapshots, transport, s.members(own)))
	}
	node, err := raft.NewRaft(config, s.store, logs, stable, snapshots, transport)
	check(err)
	return node
}

// members is the configuration that all nodes bootstrap; it has to be the same everywhere.
func (s *server) members(own string) (all raft.Configuration) {
	for _, name := range s.Names {
		address := own
		if name != s.Name {
			address = peerAddress(s.Peers[name])
		}
		member := raft.Server{ID: raft.ServerID(name), Address: raft.ServerAddress(address)}
		all.Servers = append(all.Servers, member)
	}
	return all
}

// serve answers a client.
func (s *server) serve(body Body) (Body, error) {
	if s.reads == "local" && body.Text("type") == "read" {
		return s.store.read(body)
	}
	if s.raft.State() == raft.Leader {
		return s.lead(body)
	}
	_, leader := s.raft.LeaderWithID()
	if leader == "" || string(leader) == s.Name {
		return nil, Failure{11, "no leader is known"}
	}
	asked := Body{"type": JSON("forwarded"), "request": JSON(body)}
	answer, err := s.Call(string(leader), asked, forwardTimeout)
	if err != nil {
		return nil, err
	}
	return decode[Body]("answer", answer.Get("answer")), nil
}

// lead answers a request as the leader.
func (s *server) lead(body Body) (Body, error) {
	if body.Text("type") == "read" {
		if s.reads == "verified" {
			if err := s.verify(); err != nil {
				return nil, Failure{11, err.Error()} // Nothing was changed: definite.
			}
		} else if s.raft.State() != raft.Leader {
			return nil, Failure{11, raft.ErrNotLeader.Error()}
		}
		return s.store.read(body)
	}
	body.Get("key") // What lacks a field must not enter the log.
	if body.Text("type") == "cas" {
		body.Get("from")
		body.Get("to")
	} else {
		body.Get("value")
	}
	applied := s.raft.Apply(JSON(body), enqueueTimeout)
	switch err := applied.Error(); {
	case err == nil:
		if refused, ok := applied.Response().(Failure); ok {
			return nil, refused
		}
		return nil, nil
	case isDefinite(err):
		return nil, Failure{11, err.Error()}
	default:
		return nil, Failure{0, err.Error()}
	}
}

// isDefinite tells errors that are given before an entry is in the leader's log.
func isDefinite(err error) bool {
	return errors.Is(err, raft.ErrNotLeader) || errors.Is(err, raft.ErrEnqueueTimeout) ||
		errors.Is(err, raft.ErrLeadershipTransferInProgress)
}

// verify returns nil if this node led at some time since it was called, and has applied all
// that was answered before. The library leaves the second half to us: a new leader may have
// entries of earlier terms that it has not applied, so it waits for a barrier once a term.
// What was written in its own term it has applied, or nobody was answered.
func (s *server) verify() error {
	term := s.raft.CurrentTerm()
	if s.caughtUp.Load() != term {
		if err := s.raft.Barrier(barrierTimeout).Error(); err != nil {
			return err
		}
	}
	if err := s.raft.VerifyLeader().Error(); err != nil {
		return err
	}
	if s.raft.CurrentTerm() != term {
		return errors.New("the term has changed")
	}
	s.caughtUp.Store(term)
	return nil
}

func (s *server) status(Body) (Body, error) {
	role := "follower"
	switch s.raft.State() {
	case raft.Leader:
		role = "leader"
	case raft.Candidate:
		role = "candidate"
	}
	_, leader := s.raft.LeaderWithID()
	return Body{"role": JSON(role), "term": JSON(s.raft.CurrentTerm()), "leader": JSON(leader)}, nil
}

// registers is the state machine.
type registers struct {
	mutex  sync.Mutex
	values map[string]json.RawMessage // by the key's JSON
}

func newRegisters() *registers { return &registers{values: map[string]json.RawMessage{}} }

func (r *registers) read(body Body) (Body, error) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	key := string(body.Get("key"))
	value, ok := r.values[key]
	if !ok {
		return nil, Failure{20, "there is no key " + key}
	}
	return Body{"value": value}, nil
}

// Apply carries out a write or cas at its place in the log; its result is a Failure or nil.
func (r *registers) Apply(entry *raft.Log) any {
	var body Body
	check(json.Unmarshal(entry.Data, &body))
	r.mutex.Lock()
	defer r.mutex.Unlock()
	key := string(body.Get("key"))
	if body.Text("type") == "write" {
		r.values[key] = body.Get("value")
		return nil
	}
	held, ok := r.values[key]
	if !ok {
		return Failure{20, "there is no key " + key}
	}
	if from := string(body.Get("from")); from != string(held) {
		return Failure{22, "expected " + from + ", but it is " + string(held)}
	}
	r.values[key] = body.Get("to")
	return nil
}
