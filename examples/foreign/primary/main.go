// Registers on a primary that ships its log to backups, in Go.
//
//	(cd examples/foreign/primary && go build -o /tmp/primary .)
//	splitbrain run "launch:/tmp/primary" --nodes 3 --nemesis partition,kill
//
// Promise: registers with cas are linearizable, and a majority of nodes is enough,
// whatever happens to the others: cut off, paused, killed, or without power.
//
// How it works: time is cut into epochs, with at most one primary each. It takes requests
// from clients, and those that other nodes pass on to it. Each becomes an entry of its
// log, reads too; a shipment brings a backup the entries that it lacks. An entry that a
// majority has on disk is safe: it is applied, and answered. A backup that hears of no
// primary for a while asks for votes for a new epoch, and gets them from nodes whose log
// isn't further than its own. So a new primary has all that is safe (the rules are those
// of Ongaro and Ousterhout 2014). The log is a file of lines, each written once.
//
// Bugs, each by --bug NAME:
//
//	ack-before-backups     an entry is answered once the primary itself has it
//	ack-before-fsync       nobody waits for the disk
//	read-from-backup       any node answers reads from what it applied
//	read-without-majority  a primary answers reads at once: it may be one no longer
//	epoch-not-checked      a backup takes shipments from the primaries of past epochs
//	votes-for-anyone       a vote goes to whoever asks first, however far its log is
//	retry-when-silent      a request that the primary didn't answer is passed on again
//	refused-when-silent    such a request is answered by a definite error
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"log"
	"math/rand"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"
)

const (
	shipEvery   = 30 * time.Millisecond
	silenceMin  = 150 * time.Millisecond
	silenceMore = 150 * time.Millisecond
	patience    = time.Second
	lineMax     = 1 << 20
	shipmentMax = 200
)

type Body struct {
	Type      string          `json:"type"`
	MsgID     *int64          `json:"msg_id,omitempty"`
	InReplyTo *int64          `json:"in_reply_to,omitempty"`
	Key       json.RawMessage `json:"key,omitempty"`
	Value     json.RawMessage `json:"value,omitempty"`
	From      json.RawMessage `json:"from,omitempty"`
	To        json.RawMessage `json:"to,omitempty"`
	Code      *int            `json:"code,omitempty"`
	Text      string          `json:"text,omitempty"`
	Role      string          `json:"role,omitempty"`
	Term      int             `json:"term,omitempty"`
	Leader    *string         `json:"leader,omitempty"`

	// between nodes
	Epoch   int     `json:"epoch,omitempty"`
	Before  int     `json:"before,omitempty"`  // entries of the log that come before these
	At      int     `json:"at,omitempty"`      // and the epoch of the last of them
	Entries []Entry `json:"entries,omitempty"` // what is shipped
	Safe    int     `json:"safe,omitempty"`
	Yes     bool    `json:"yes,omitempty"`
	Has     int     `json:"has,omitempty"` // up to where the backup's log is the primary's
}

type Message struct {
	Src  string `json:"src"`
	Dest string `json:"dest"`
	Body Body   `json:"body"`
}

type Entry struct {
	Epoch   int  `json:"epoch"`
	Request Body `json:"request"`
}

// Record is a line of the journal: an epoch and a vote, or an entry and its place.
type Record struct {
	Epoch int    `json:"epoch,omitempty"`
	Vote  string `json:"vote,omitempty"`
	Place int    `json:"place,omitempty"` // counted from 1; later entries are gone
	Entry *Entry `json:"entry,omitempty"`
}

var (
	bug   string
	name  = os.Getenv("SPLITBRAIN_NODE")
	peers = map[string]string{} // name -> "host:port"
)

func fail(code int, text string) Body { return Body{Type: "error", Code: &code, Text: text} }

// Node is all the state. What is on disk comes first, then what a restart forgets.
type Node struct {
	sync.Mutex
	journal *os.File
	epoch   int
	vote    string
	log     []Entry

	role    string // backup, candidate or primary
	primary string
	silence time.Time // when to ask for votes
	safe    int       // entries that a majority has
	applied int
	data    map[string]json.RawMessage
	votes   int
	has     map[string]int       // primary: what each backup has for certain
	waiting map[int]chan Body    // primary: place of an entry -> who waits for its answer
	nudge   map[string]chan bool // primary: a backup's courier has something to do
}

// --- the disk ------------------------------------------------------------------------

func (n *Node) open(path string) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	must(err)
	text, err := os.ReadFile(path)
	must(err)
	// What lies behind the last whole line was never answered: a loss of power may leave
	// any part of it.
	whole := 0
	for _, line := range bytes.SplitAfter(text, []byte("\n")) {
		var record Record
		if !bytes.HasSuffix(line, []byte("\n")) || json.Unmarshal(line, &record) != nil || record.Place > len(n.log)+1 {
			break
		}
		whole += len(line)
		if record.Entry != nil {
			n.log = append(n.log[:record.Place-1], *record.Entry)
		} else {
			n.epoch, n.vote = record.Epoch, record.Vote
		}
	}
	must(file.Truncate(int64(whole)))
	_, err = file.Seek(int64(whole), 0)
	must(err)
	must(file.Sync())
	folder, err := os.Open(filepath.Dir(path))
	must(err)
	must(folder.Sync())
	n.journal = file
}

// Nobody knows what a disk that failed holds. A restart reads it.
func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func (n *Node) write(records ...Record) {
	var lines bytes.Buffer
	for _, record := range records {
		must(json.NewEncoder(&lines).Encode(record))
	}
	_, err := n.journal.Write(lines.Bytes())
	must(err)
	if bug != "ack-before-fsync" {
		must(n.journal.Sync())
	}
}

func (n *Node) keep(place int, entries []Entry) {
	n.log = n.log[:place]
	var records []Record
	for i := range entries {
		n.log = append(n.log, entries[i])
		records = append(records, Record{Place: place + i + 1, Entry: &entries[i]})
	}
	n.write(records...)
}

func (n *Node) enter(epoch int, vote string) {
	n.epoch, n.vote = epoch, vote
	n.write(Record{Epoch: epoch, Vote: vote})
}

// --- epochs --------------------------------------------------------------------------

func (n *Node) epochAt(place int) int {
	if place == 0 {
		return 0
	}
	return n.log[place-1].Epoch
}

func (n *Node) follow(epoch int) {
	if epoch > n.epoch {
		n.enter(epoch, "")
		n.primary = ""
	}
	if n.role == "primary" {
		// Their entries may become safe yet, under another primary.
		for place, answer := range n.waiting {
			answer <- fail(0, "the primary was deposed")
			delete(n.waiting, place)
		}
	}
	n.role = "backup"
}

func (n *Node) rest() {
	n.silence = time.Now().Add(silenceMin + time.Duration(rand.Int63n(int64(silenceMore))))
}

func (n *Node) watch() {
	for range time.Tick(10 * time.Millisecond) {
		n.Lock()
		if n.role != "primary" && time.Now().After(n.silence) {
			n.rest()
			n.enter(n.epoch+1, name)
			n.role, n.primary, n.votes = "candidate", "", 1
			ask := Body{Type: "vote", Epoch: n.epoch, Before: len(n.log), At: n.epochAt(len(n.log))}
			for peer := range peers {
				go n.campaign(peer, ask)
			}
		}
		n.Unlock()
	}
}

func (n *Node) campaign(peer string, ask Body) {
	link := Link{peer: peer}
	defer link.close()
	answer, err := link.call(ask, silenceMin)
	n.Lock()
	defer n.Unlock()
	if err != nil {
		return
	}
	if answer.Epoch > n.epoch {
		n.follow(answer.Epoch)
	}
	if !answer.Yes || n.role != "candidate" || n.epoch != ask.Epoch {
		return
	}
	if n.votes++; n.votes == (len(peers)+1)/2+1 {
		n.role, n.primary, n.has, n.waiting = "primary", name, map[string]int{}, map[int]chan Body{}
		// Entries of past epochs are safe once one of this epoch is.
		n.add(Body{Type: "begin"})
		log.Printf("%s is primary of epoch %d", name, n.epoch)
	}
}

func (n *Node) onVote(ask Body) Body {
	if ask.Epoch > n.epoch {
		n.follow(ask.Epoch)
	}
	mine, last := n.epochAt(len(n.log)), len(n.log)
	isBehind := ask.At < mine || ask.At == mine && ask.Before < last
	if bug == "votes-for-anyone" {
		isBehind = false
	}
	yes := ask.Epoch == n.epoch && !isBehind && (n.vote == "" || n.vote == ask.Text)
	if yes {
		if n.vote == "" {
			n.enter(n.epoch, ask.Text)
		}
		n.rest()
	}
	return Body{Type: "vote_ok", Epoch: n.epoch, Yes: yes}
}

// --- shipping the log ----------------------------------------------------------------

// add makes a request the next entry; the answer comes once it is safe.
func (n *Node) add(request Body) chan Body {
	n.keep(len(n.log), []Entry{{n.epoch, request}})
	answer := make(chan Body, 1)
	n.waiting[len(n.log)] = answer
	n.settle()
	for _, nudge := range n.nudge {
		select {
		case nudge <- true:
		default:
		}
	}
	return answer
}

// courier brings one backup what it lacks, and a sign of life when it lacks nothing.
func (n *Node) courier(peer string) {
	link := Link{peer: peer}
	epoch, next := 0, 0 // what follows `next` entries is shipped next
	for {
		select {
		case <-n.nudge[peer]:
		case <-time.After(shipEvery):
		}
		for more := true; more; {
			n.Lock()
			if n.role != "primary" {
				n.Unlock()
				break
			}
			if n.epoch != epoch {
				epoch, next = n.epoch, len(n.log)
			}
			end := min(len(n.log), next+shipmentMax)
			ship := Body{Type: "ship", Epoch: epoch, Before: next, At: n.epochAt(next), Safe: n.safe}
			ship.Entries = append(ship.Entries, n.log[next:end]...)
			n.Unlock()
			answer, err := link.call(ship, silenceMin)
			n.Lock()
			switch {
			case err != nil:
				more = false
			case answer.Epoch > n.epoch:
				n.follow(answer.Epoch)
			case n.role == "primary" && n.epoch == epoch && answer.Yes:
				next = answer.Has
				n.has[peer] = max(n.has[peer], next)
				n.settle()
				more = next < len(n.log)
			default:
				next = min(next, answer.Has)
			}
			n.Unlock()
		}
	}
}

func (n *Node) onShip(ship Body, primary string) Body {
	if ship.Epoch > n.epoch || (ship.Epoch == n.epoch && n.role == "candidate") {
		n.follow(ship.Epoch)
	}
	if ship.Epoch < n.epoch && !(bug == "epoch-not-checked" && n.role == "backup") {
		return Body{Type: "ship_ok", Epoch: n.epoch}
	}
	n.primary = primary
	n.rest()
	answer := Body{Type: "ship_ok", Epoch: ship.Epoch}
	if len(n.log) < ship.Before || n.epochAt(ship.Before) != ship.At {
		answer.Has = max(0, min(len(n.log), ship.Before-1))
		return answer
	}
	// What is here already stays: an earlier shipment may arrive after a later one.
	place, entries := ship.Before, ship.Entries
	for len(entries) > 0 && place < len(n.log) && n.log[place].Epoch == entries[0].Epoch {
		place, entries = place+1, entries[1:]
	}
	if len(entries) > 0 {
		n.keep(place, entries)
	}
	answer.Yes, answer.Has = true, ship.Before+len(ship.Entries)
	n.safe = max(n.safe, min(ship.Safe, answer.Has))
	n.apply()
	return answer
}

// settle finds out which entries a majority has by now.
func (n *Node) settle() {
	for place := len(n.log); place > n.safe && n.log[place-1].Epoch == n.epoch; place-- {
		count := 1
		for peer := range peers {
			if n.has[peer] >= place {
				count++
			}
		}
		if count > (len(peers)+1)/2 || bug == "ack-before-backups" {
			n.safe = place
			break
		}
	}
	n.apply()
}

func (n *Node) apply() {
	for ; n.applied < min(n.safe, len(n.log)); n.applied++ {
		answer := n.carryOut(n.log[n.applied].Request)
		if waiting := n.waiting[n.applied+1]; waiting != nil && n.role == "primary" {
			waiting <- answer
			delete(n.waiting, n.applied+1)
		}
	}
}

func (n *Node) carryOut(request Body) Body {
	value, known := n.data[string(request.Key)]
	switch {
	case request.Type == "begin":
		return Body{}
	case request.Type == "write":
		n.data[string(request.Key)] = request.Value
		return Body{Type: "write_ok"}
	case !known:
		return fail(20, "nobody wrote this key")
	case request.Type == "read":
		return Body{Type: "read_ok", Value: value}
	case !bytes.Equal(value, request.From):
		return fail(22, fmt.Sprintf("expected %s, but it is %s", request.From, value))
	}
	n.data[string(request.Key)] = request.To
	return Body{Type: "cas_ok"}
}

// --- clients ---------------------------------------------------------------------------

func flaw(body Body) *Body {
	needs := map[string][]string{"read": {"key"}, "write": {"key", "value"}, "cas": {"key", "from", "to"}}
	given := map[string]json.RawMessage{"key": body.Key, "value": body.Value, "from": body.From, "to": body.To}
	needed, known := needs[body.Type]
	if !known {
		out := fail(10, body.Type+" is not supported")
		return &out
	}
	for _, field := range needed {
		if given[field] == nil {
			out := fail(12, "there is no "+field+" in the request")
			return &out
		}
	}
	return nil
}

// serve answers a client's request, here or by the primary; links are the connection's own.
func (n *Node) serve(body Body, links map[string]*Link, passedOn bool) Body {
	request := Body{Type: body.Type, Key: body.Key, Value: body.Value, From: body.From, To: body.To}
	n.Lock()
	isPrimary, primary := n.role == "primary", n.primary
	if body.Type == "read" && (bug == "read-from-backup" || bug == "read-without-majority" && isPrimary) {
		defer n.Unlock()
		return n.carryOut(request)
	}
	if isPrimary {
		waiting := n.add(request)
		n.Unlock()
		select {
		case answer := <-waiting:
			return answer
		case <-time.After(patience):
			return fail(0, "no majority of the nodes answers")
		}
	}
	n.Unlock()
	if primary == "" || passedOn {
		return fail(11, "there is no primary that this node knows of")
	}
	if links[primary] == nil {
		links[primary] = &Link{peer: primary}
	}
	request.Type = "pass-" + request.Type
	answer, err := links[primary].call(request, patience)
	if err == nil {
		return answer
	}
	switch {
	case err == errNotSent:
		return fail(11, primary+" can't be reached")
	case bug == "refused-when-silent":
		return fail(11, primary+" did not answer")
	case bug == "retry-when-silent":
		if again, err := links[primary].call(request, patience); err == nil {
			return again
		}
	}
	return fail(0, primary+" did not answer")
}

func (n *Node) handle(src string, body Body, links map[string]*Link) Body {
	switch body.Type {
	case "status", "vote", "ship":
		n.Lock()
		defer n.Unlock()
		switch body.Type {
		case "vote":
			body.Text = src
			return n.onVote(body)
		case "ship":
			return n.onShip(body, src)
		}
		role := map[bool]string{true: "leader", false: "follower"}[n.role == "primary"]
		return Body{Type: "status_ok", Role: role, Term: n.epoch, Leader: &n.primary}
	case "pass-read", "pass-write", "pass-cas":
		body.Type = body.Type[len("pass-"):]
		return n.serve(body, links, true)
	}
	if wrong := flaw(body); wrong != nil {
		return *wrong
	}
	return n.serve(body, links, false)
}

func (n *Node) connection(socket net.Conn) {
	defer socket.Close()
	links := map[string]*Link{}
	defer func() {
		for _, link := range links {
			link.close()
		}
	}()
	lines := bufio.NewScanner(socket)
	lines.Buffer(nil, lineMax)
	for lines.Scan() {
		var message Message
		if json.Unmarshal(lines.Bytes(), &message) != nil || message.Body.MsgID == nil {
			continue
		}
		answer := n.handle(message.Src, message.Body, links)
		answer.InReplyTo = message.Body.MsgID
		if send(socket, Message{name, message.Src, answer}) != nil {
			return
		}
	}
}

func main() {
	if len(os.Args) == 3 && os.Args[1] == "--bug" {
		bug = os.Args[2]
	}
	must(json.Unmarshal([]byte(os.Getenv("SPLITBRAIN_PEERS")), &peers))
	n := &Node{role: "backup", data: map[string]json.RawMessage{}, nudge: map[string]chan bool{}}
	n.open(filepath.Join(os.Getenv("SPLITBRAIN_DATA"), "journal.jsonl"))
	n.rest()
	listener, err := net.Listen("tcp", os.Getenv("SPLITBRAIN_LISTEN"))
	must(err)
	for peer := range peers {
		n.nudge[peer] = make(chan bool, 1)
	}
	for peer := range peers {
		go n.courier(peer)
	}
	go n.watch()
	for {
		if socket, err := listener.Accept(); err == nil {
			go n.connection(socket)
		}
	}
}
