// Porcupine on a history of `splitbrain bench`, within a limit of time. Memory is limited
// from outside: with thousands of keys, Porcupine's goroutines would starve a guard here.
//
//	porcupine -time-limit 60s FILE
//
// FILE has a line per operation, as harness/bench/peer.py writes it:
//
//	CLIENT KEY FUNCTION ARGUMENT ANSWER CALL RETURN
//
// FUNCTION is read, write or cas; values are texts without blanks, "-" for none. The
// argument of a cas is FROM,TO and its answer ok, refused or unknown. CALL and RETURN are
// positions in the history; an operation that never returned has a RETURN behind all
// others, as Porcupine wants it.
//
// The answer is a line of JSON: what came out ("ok", "illegal" or "timeout"), the seconds
// that the check took by the clock and of processor time, those for reading the file, and
// the peak memory. The same line, still without a result, comes first as soon as the file
// has been read.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/anishathalye/porcupine"
)

type function int

const (
	read function = iota
	write
	cas
)

const nothing = 0 // the value before the first write

// Outcomes of a cas.
const (
	unknown = iota
	done
	refused
)

type input struct {
	key      int
	function function
	argument int
	to       int // of a cas
}

type answer struct {
	Result      string  `json:"result"`
	Seconds     float64 `json:"seconds"`
	CPUSeconds  float64 `json:"cpu_seconds"`
	LoadSeconds float64 `json:"load_seconds"`
	PeakMiB     float64 `json:"peak_mib"`
	Operations  int     `json:"operations"`
}

func main() {
	timeLimit := flag.Duration("time-limit", time.Minute, "for the check alone")
	flag.Parse()
	if flag.NArg() != 1 {
		flag.Usage()
		os.Exit(2)
	}

	begun := time.Now()
	operations, err := load(flag.Arg(0))
	if err != nil {
		fmt.Fprintln(os.Stderr, "porcupine:", err)
		os.Exit(1)
	}
	loaded := time.Now()
	out := answer{LoadSeconds: loaded.Sub(begun).Seconds(), Operations: len(operations)}

	// The first line, for whoever has to end this for its memory.
	report(out)

	used := processorSeconds()
	result := porcupine.CheckOperationsTimeout(register, operations, *timeLimit)
	out.CPUSeconds = processorSeconds() - used
	out.Seconds = time.Since(loaded).Seconds()
	out.Result = map[porcupine.CheckResult]string{
		porcupine.Ok:      "ok",
		porcupine.Illegal: "illegal",
		porcupine.Unknown: "timeout",
	}[result]
	report(out)
}

// register is the usual model, for one key: the state is the value that is there. Numbers
// for values, equality and a hash on them: so Porcupine shows its best.
var register = porcupine.Model{
	Partition: partition,
	Init:      func() interface{} { return nothing },
	Step: func(state, in, out interface{}) (bool, interface{}) {
		return step(state.(int), in.(input), out.(int))
	},
	Equal: func(a, b interface{}) bool { return a.(int) == b.(int) },
	Hash:  func(state interface{}) uint64 { return uint64(state.(int)) },
}

func step(state int, in input, out int) (bool, int) {
	switch in.function {
	case read:
		return out == state, state
	case write:
		return true, in.argument
	}
	matches := state == in.argument
	next := state
	if matches {
		next = in.to
	}
	switch out {
	case done:
		return matches, next
	case refused:
		return !matches, state
	}
	return true, next // nobody knows: it did what it found
}

func partition(history []porcupine.Operation) [][]porcupine.Operation {
	byKey := make(map[int][]porcupine.Operation)
	for _, operation := range history {
		key := operation.Input.(input).key
		byKey[key] = append(byKey[key], operation)
	}
	parts := make([][]porcupine.Operation, 0, len(byKey))
	for _, part := range byKey {
		parts = append(parts, part)
	}
	return parts
}

// numbering gives equal texts equal numbers; "-" is `nothing`.
type numbering map[string]int

func (known numbering) of(text string) int {
	number, found := known[text]
	if !found {
		number = len(known)
		known[text] = number
	}
	return number
}

func load(path string) ([]porcupine.Operation, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	values := numbering{"-": nothing}
	var operations []porcupine.Operation
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		operation, err := parse(lines.Text(), values)
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", path, len(operations)+1, err)
		}
		operations = append(operations, operation)
	}
	return operations, lines.Err()
}

func parse(line string, values numbering) (porcupine.Operation, error) {
	var none porcupine.Operation
	words := strings.Fields(line)
	if len(words) != 7 {
		return none, fmt.Errorf("want 7 words, got %d", len(words))
	}
	var numbers [4]int
	for i, at := range [4]int{0, 1, 5, 6} {
		number, err := strconv.Atoi(words[at])
		if err != nil {
			return none, err
		}
		numbers[i] = number
	}
	in, out := input{key: numbers[1]}, 0
	switch words[2] {
	case "read":
		in.function, out = read, values.of(words[4])
	case "write":
		in.function, in.argument = write, values.of(words[3])
	case "cas":
		from, to, found := strings.Cut(words[3], ",")
		if !found {
			return none, fmt.Errorf("a cas wants FROM,TO, got %q", words[3])
		}
		in.function, in.argument, in.to = cas, values.of(from), values.of(to)
		out = map[string]int{"ok": done, "refused": refused}[words[4]]
	default:
		return none, fmt.Errorf("no function is called %q", words[2])
	}
	return porcupine.Operation{
		ClientId: numbers[0],
		Input:    in,
		Call:     int64(numbers[2]),
		Output:   out,
		Return:   int64(numbers[3]),
	}, nil
}

// processorSeconds is what all threads of this process have used.
func processorSeconds() float64 {
	var usage syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &usage) != nil {
		return 0
	}
	return float64(usage.Utime.Nano()+usage.Stime.Nano()) / 1e9
}

// memoryMiB is a figure of /proc/self/status, 0 where there is none.
func memoryMiB(field string) float64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for _, line := range strings.Split(string(status), "\n") {
		if rest, found := strings.CutPrefix(line, field); found {
			kib, _ := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			return kib / 1024
		}
	}
	return 0
}

func report(out answer) {
	out.PeakMiB = memoryMiB("VmHWM:")
	_ = json.NewEncoder(os.Stdout).Encode(out)
}
