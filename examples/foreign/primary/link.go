package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"net"
	"time"
)

var errNotSent = errors.New("there is no connection, and nothing was sent")

const connectIn = 200 * time.Millisecond

// Link is a connection to a peer, made when it is needed, for one request at a time.
type Link struct {
	peer   string
	socket net.Conn
	lines  *bufio.Scanner
	lastID int64
}

// call sends a request and waits for its answer. Without one the connection is closed: the
// answer may still come on it, and must not be taken for the next one's.
func (l *Link) call(body Body, patience time.Duration) (Body, error) {
	if l.socket == nil {
		socket, err := net.DialTimeout("tcp", peers[l.peer], connectIn)
		if err != nil {
			return Body{}, errNotSent
		}
		l.socket, l.lines = socket, bufio.NewScanner(socket)
		l.lines.Buffer(nil, 4*lineMax)
	}
	l.lastID++
	id := l.lastID
	body.MsgID = &id
	l.socket.SetDeadline(time.Now().Add(patience))
	if err := send(l.socket, Message{name, l.peer, body}); err != nil {
		l.close()
		return Body{}, err
	}
	for l.lines.Scan() {
		var answer Message
		if json.Unmarshal(l.lines.Bytes(), &answer) == nil && answer.Body.InReplyTo != nil && *answer.Body.InReplyTo == id {
			answer.Body.InReplyTo = nil
			return answer.Body, nil
		}
	}
	l.close()
	return Body{}, errors.New("no answer")
}

func (l *Link) close() {
	if l.socket != nil {
		l.socket.Close()
		l.socket = nil
	}
}

func send(socket net.Conn, message Message) error {
	line, err := json.Marshal(message)
	if err == nil {
		_, err = socket.Write(append(line, '\n'))
	}
	return err
}
