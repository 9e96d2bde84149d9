// The wire of splitbrain (WIRE.md) for nodes in Go: copy this file beside yours.
//
//	node := NewNode()
//	node.On("echo", func(body Body) (Body, error) {
//		return Body{"echo": body.Get("echo")}, nil
//	})
//	node.Run()
//
// Needs Go 1.18 or later and nothing else. A handler gets the body of a request and returns
// that of the answer, whose type is filled in, or the error that is answered: a Failure with
// its code, anything else as 13 (crash), which leaves open whether the operation happened.
// Handlers run side by side, one goroutine a request: guard what they share.
//
// Fields are kept as the JSON text they came in, so whatever a client wrote is what a reader
// gets, however large its numbers are.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"path/filepath"
	"sort"
	"sync"
	"time"
)

const lineBytesMax = 1 << 20

// Body is a message's body: its fields, as JSON.
type Body map[string]json.RawMessage

// Failure is an answer of type error; its code says whether anything may have happened.
type Failure struct {
	Code int
	Text string
}

func (f Failure) Error() string { return f.Text }

// Get returns a field, as JSON. Without it, the request is answered with a Failure (12).
func (b Body) Get(field string) json.RawMessage {
	value, ok := b[field]
	if !ok {
		panic(Failure{12, "there is no " + field + " in the request"})
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, value); err != nil {
		panic(Failure{12, field + ": " + err.Error()})
	}
	return compact.Bytes()
}

// Text returns a field that is a string; of another kind, the Failure is 12 as well.
func (b Body) Text(field string) string { return decode[string](field, b.Get(field)) }

// Int returns a field that is a whole number; of another kind, the Failure is 12 as well.
func (b Body) Int(field string) int64 { return decode[int64](field, b.Get(field)) }

func decode[T any](field string, raw json.RawMessage) (value T) {
	if err := json.Unmarshal(raw, &value); err != nil {
		panic(Failure{12, field + ": " + err.Error()})
	}
	return value
}

// JSON is a value's text.
func JSON(value any) json.RawMessage {
	raw, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	return raw
}

// Handler answers requests of a type.
type Handler func(Body) (Body, error)

// Node is this node: its name, its peers, its directory, and what it answers.
type Node struct {
	Name, Data string
	Peers      map[string]string // name -> "host:port"
	Names      []string          // of all nodes, sorted
	Majority   int
	handlers   map[string]Handler
	links      map[string]*link
}

type message struct {
	Src  string `json:"src"`
	Dest string `json:"dest"`
	Body Body   `json:"body"`
}

// NewNode reads what the environment says of this node.
func NewNode() *Node {
	n := &Node{Name: os.Getenv("SPLITBRAIN_NODE"), Data: os.Getenv("SPLITBRAIN_DATA")}
	if err := json.Unmarshal([]byte(os.Getenv("SPLITBRAIN_PEERS")), &n.Peers); err != nil {
		log.Fatal("SPLITBRAIN_PEERS: ", err)
	}
	n.handlers = map[string]Handler{"clock": clock}
	n.links = map[string]*link{}
	n.Names = []string{n.Name}
	for peer, address := range n.Peers {
		n.Names = append(n.Names, peer)
		n.links[peer] = &link{node: n, peer: peer, address: address}
	}
	sort.Strings(n.Names)
	n.Majority = len(n.Names)/2 + 1
	return n
}

// On has a handler answer requests of a type.
func (n *Node) On(kind string, handler Handler) { n.handlers[kind] = handler }

// Call returns the answer of a peer, or of this node itself. Its error is a Failure: the
// peer's own; 11, and it never got the request, as there is no connection; 0, and nobody
// knows whether it did.
func (n *Node) Call(peer string, body Body, timeout time.Duration) (Body, error) {
	if peer == n.Name {
		return n.handle(body)
	}
	return n.links[peer].call(body, timeout)
}

// AskMajority returns the answers of the first majority of all nodes, this one among those
// asked. Its error is a Failure (0): there was no majority; the request may have reached some.
func (n *Node) AskMajority(body Body, timeout time.Duration) ([]Body, error) {
	answers := make(chan Body, len(n.Names))
	for _, name := range n.Names {
		go func(name string) {
			answer, err := n.Call(name, body, timeout)
			if err != nil {
				answer = nil
			}
			answers <- answer
		}(name)
	}
	var majority []Body
	for range n.Names {
		if answer := <-answers; answer != nil {
			majority = append(majority, answer)
		}
		if len(majority) == n.Majority {
			return majority, nil
		}
	}
	return nil, Failure{0, "a majority did not answer"}
}

// Run serves clients and peers until killed.
func (n *Node) Run() {
	listener, err := net.Listen("tcp", os.Getenv("SPLITBRAIN_LISTEN"))
	if err != nil {
		log.Fatal(err)
	}
	for {
		conn, err := listener.Accept()
		if err != nil {
			log.Fatal(err)
		}
		go n.serve(conn)
	}
}

func (n *Node) serve(conn net.Conn) {
	defer conn.Close()
	var writing sync.Mutex
	eachMessage(conn, func(asked message) {
		id, ok := asked.Body["msg_id"]
		if !ok || asked.Src == "" {
			return // Nobody to answer.
		}
		go func() { // The sender may have more to ask meanwhile.
			answer, err := n.handle(asked.Body)
			if err != nil {
				answer = errorBody(err)
			}
			answer["in_reply_to"] = id
			writing.Lock()
			defer writing.Unlock()
			conn.Write(encode(message{n.Name, asked.Src, answer}))
		}()
	})
}

func errorBody(err error) Body {
	failure := Failure{13, err.Error()}
	errors.As(err, &failure)
	return Body{"type": JSON("error"), "code": JSON(failure.Code), "text": JSON(failure.Text)}
}

func (n *Node) handle(body Body) (answer Body, err error) {
	defer func() {
		switch panicked := recover().(type) {
		case nil:
		case Failure:
			err = panicked
		default:
			log.Println("panic:", panicked)
			err = fmt.Errorf("%v", panicked)
		}
	}()
	kind := body.Text("type")
	handler, ok := n.handlers[kind]
	if !ok {
		return nil, Failure{10, kind + " is not supported"}
	}
	given, err := handler(body)
	if err != nil {
		return nil, err
	}
	answer = Body{"type": JSON(kind + "_ok")}
	for field, value := range given {
		answer[field] = value
	}
	return answer, nil
}

// link is the connection to a peer, made when it is needed, and made again when lost.
type link struct {
	node          *Node
	peer, address string
	mutex         sync.Mutex
	conn          net.Conn
	waiting       map[int64]chan Body
	lastID        int64
}

func (l *link) call(body Body, timeout time.Duration) (Body, error) {
	sent := Body{}
	for field, value := range body {
		sent[field] = value
	}
	deadline := time.Now().Add(timeout)
	l.mutex.Lock()
	if l.conn == nil {
		conn, err := net.DialTimeout("tcp", l.address, time.Until(deadline))
		if err != nil {
			l.mutex.Unlock()
			return nil, Failure{11, l.peer + " can't be reached"} // Nothing was sent: definite.
		}
		l.conn, l.waiting = conn, map[int64]chan Body{}
		go l.read(conn, l.waiting)
	}
	l.lastID++
	id, conn, waiting := l.lastID, l.conn, l.waiting
	sent["msg_id"] = JSON(id)
	answers := make(chan Body, 1)
	waiting[id] = answers
	conn.SetWriteDeadline(deadline)
	_, err := conn.Write(encode(message{l.node.Name, l.peer, sent}))
	l.mutex.Unlock()
	if err != nil {
		l.drop(conn)
	}
	select {
	case answer, ok := <-answers:
		if !ok {
			break
		}
		if string(answer["type"]) != `"error"` {
			return answer, nil
		}
		failure := Failure{Code: 13}
		json.Unmarshal(answer["code"], &failure.Code)
		json.Unmarshal(answer["text"], &failure.Text)
		return nil, failure
	case <-time.After(time.Until(deadline)):
		l.drop(conn) // It may be dead without saying so: the next call makes a new one.
	}
	return nil, Failure{0, l.peer + " did not answer"} // It may have arrived: indefinite.
}

func (l *link) read(conn net.Conn, waiting map[int64]chan Body) {
	eachMessage(conn, func(got message) {
		var id int64
		if json.Unmarshal(got.Body["in_reply_to"], &id) != nil {
			return
		}
		l.mutex.Lock()
		defer l.mutex.Unlock()
		if answers, ok := waiting[id]; ok {
			delete(waiting, id)
			answers <- got.Body
		}
	})
	l.drop(conn)
}

// drop closes a connection; calls that wait for answers on it get none.
func (l *link) drop(conn net.Conn) {
	conn.Close()
	l.mutex.Lock()
	defer l.mutex.Unlock()
	if l.conn != conn {
		return
	}
	for id, answers := range l.waiting {
		delete(l.waiting, id)
		close(answers)
	}
	l.conn = nil
}

// Journal holds values by key, in a file that survives kills and power losses.
type Journal struct {
	Values map[string]json.RawMessage // by the key's JSON
	file   *os.File
}

// OpenJournal reads a journal, or makes it.
func OpenJournal(path string) *Journal {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		log.Fatal(err)
	}
	held, err := io.ReadAll(file)
	if err != nil {
		log.Fatal(err)
	}
	// A kill in mid-write leaves a line without an end. Nobody was told that it happened.
	end := int64(bytes.LastIndexByte(held, '\n') + 1)
	j := &Journal{Values: map[string]json.RawMessage{}, file: file}
	for _, line := range bytes.Split(held[:end], []byte("\n")) {
		var entry [2]json.RawMessage
		if len(line) == 0 {
			continue
		}
		if err := json.Unmarshal(line, &entry); err != nil {
			log.Fatal("the journal is damaged: ", err)
		}
		j.Values[string(entry[0])] = entry[1]
	}
	folder, err := os.Open(filepath.Dir(path))
	if err != nil {
		log.Fatal(err)
	}
	// What we are about to serve must be durable, and so must the file's name.
	_, seekErr := file.Seek(end, io.SeekStart)
	err = errors.Join(file.Truncate(end), seekErr, file.Sync(), folder.Sync(), folder.Close())
	if err != nil {
		log.Fatal(err)
	}
	return j
}

// Put makes a value durable first, visible second: what somebody has read must survive. A disk
// that fails ends the process, as nobody knows what is in the file then. A restart reads it.
func (j *Journal) Put(key, value json.RawMessage) {
	line := append(JSON([]json.RawMessage{key, value}), '\n')
	if _, err := j.file.Write(line); err != nil {
		log.Fatal("can't write the journal: ", err)
	}
	if err := j.file.Sync(); err != nil {
		log.Fatal("can't write the journal: ", err)
	}
	j.Values[string(key)] = value
}

// clock answers a request that every node should know: what our clocks show.
func clock(Body) (Body, error) {
	now := time.Now()
	return Body{"wall_ns": JSON(now.UnixNano()), "mono_ns": JSON(time.Since(started).Nanoseconds())}, nil
}

var started = time.Now()

// eachMessage calls take with each message that arrives, and skips lines that are none. It
// ends with the connection, or at a line that is too long.
func eachMessage(conn net.Conn, take func(message)) {
	lines := bufio.NewScanner(conn)
	lines.Buffer(make([]byte, 64<<10), lineBytesMax)
	for lines.Scan() {
		var got message
		if json.Unmarshal(lines.Bytes(), &got) == nil && got.Body["type"] != nil {
			take(got)
		}
	}
}

func encode(m message) []byte {
	return append(JSON(m), '\n')
}
