// A replicated register: every node has a copy, and majorities agree (ABD).
//
//	cd examples/nodes/go && go build -o /tmp/abd abd.go splitbrain_node.go
//	splitbrain run launch:/tmp/abd --set register.cas=false \
//	    --nemesis partition,kill,pause
//
// Attiya, Bar-Noy and Dolev 1995, with many writers (Lynch and Shvartsman 1997). A value has
// a timestamp, a counter and a node. A write asks a majority for the newest timestamp and
// gives a majority a newer one. A read asks a majority for the newest value and gives it to a
// majority before it answers, or the next read might see an older one again.
//
// It reads and writes while a majority of nodes is up and connected. It can't compare and set,
// which takes consensus: the answer to cas is 10, and those operations fail.
package main

import (
	"encoding/json"
	"path/filepath"
	"sync"
	"time"
)

const patience = time.Second

// copied is a value with its timestamp.
type copied struct {
	Counter int64           `json:"counter"`
	Writer  string          `json:"writer"`
	Value   json.RawMessage `json:"value"`
}

func (c copied) newerThan(other copied) bool {
	return c.Counter > other.Counter || c.Counter == other.Counter && c.Writer > other.Writer
}

type register struct {
	*Node
	mutex  sync.Mutex // over copies
	copies *Journal
}

func main() {
	node := NewNode()
	r := &register{Node: node, copies: OpenJournal(filepath.Join(node.Data, "copies.jsonl"))}
	node.On("abd_get", func(body Body) (Body, error) {
		r.mutex.Lock()
		defer r.mutex.Unlock()
		return Body{"copy": JSON(r.held(body.Get("key")))}, nil
	})
	node.On("abd_put", func(body Body) (Body, error) {
		r.mutex.Lock()
		defer r.mutex.Unlock()
		r.keep(body.Get("key"), decode[copied]("copy", body.Get("copy")))
		return nil, nil
	})
	node.On("read", r.read)
	node.On("write", r.write)
	node.Run()
}

// held is this node's copy; the caller has the mutex.
func (r *register) held(key json.RawMessage) (mine copied) {
	if raw, ok := r.copies.Values[string(key)]; ok {
		mine = decode[copied]("copy", raw)
	}
	return mine
}

// keep takes a copy unless there is a newer one; the caller has the mutex.
func (r *register) keep(key json.RawMessage, given copied) {
	if given.newerThan(r.held(key)) {
		r.copies.Put(key, JSON(given))
	}
}

// newest is the newest copy in a majority, and whether all of that majority have it.
func (r *register) newest(key json.RawMessage) (latest copied, agreed bool, err error) {
	found, err := r.AskMajority(Body{"type": JSON("abd_get"), "key": key}, patience)
	if err != nil { // Nothing was changed: definite.
		return latest, false, Failure{11, err.Error()}
	}
	agreed = true
	for i, answer := range found {
		given := decode[copied]("copy", answer.Get("copy"))
		agreed = agreed && (i == 0 || !given.newerThan(latest) && !latest.newerThan(given))
		if given.newerThan(latest) {
			latest = given
		}
	}
	return latest, agreed, nil
}

// spread has a majority keep a copy; a Failure (0) leaves open how many do.
func (r *register) spread(key json.RawMessage, given copied) error {
	_, err := r.AskMajority(
		Body{"type": JSON("abd_put"), "key": key, "copy": JSON(given)}, patience)
	return err
}

func (r *register) read(body Body) (Body, error) {
	key := body.Get("key")
	latest, agreed, err := r.newest(key)
	if err == nil && latest.Counter == 0 {
		err = Failure{20, "there is no key " + string(key)}
	}
	if err == nil && !agreed {
		err = r.spread(key, latest)
	}
	return Body{"value": latest.Value}, err
}

func (r *register) write(body Body) (Body, error) {
	key, value := body.Get("key"), body.Get("value")
	latest, _, err := r.newest(key)
	if err != nil {
		return nil, err
	}
	// Our own copy counts as well, and takes the new value before anybody else does. Else two
	// writes through this node might choose the same timestamp: two at once, or one before a
	// kill that only another node has seen, and one after it.
	r.mutex.Lock()
	if mine := r.held(key); mine.newerThan(latest) {
		latest = mine
	}
	given := copied{latest.Counter + 1, r.Name, value}
	r.keep(key, given)
	r.mutex.Unlock()
	return nil, r.spread(key, given)
}
