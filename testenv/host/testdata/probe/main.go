//go:build wasip1

// Command probe is the module that the host's conformance cases drive: an
// interpreter for one-line commands that make host calls and report what came
// back. It declares the ABI itself, so that the cases see raw results.
package main

import (
	"encoding/binary"
	"os"
	"strconv"
	"strings"
	"time"
	"unsafe"
)

func main() {}

func init() {
	switch os.Getenv("init") {
	case "set":
		setShared("k", "v", 0)
	case "log":
		logText(2, "init")
	}
}

// What lives as long as the VM.
var (
	events    []string
	count     int
	plugins   int
	config    = map[uint32]string{}
	pinned    []([]byte)
	onAnswer  string
	ballast   [][]byte
	held      []uint32 // contexts that paused, oldest first
	uid       string   // of this VM
	metrics   = map[string]uint32{}
	stopBody  = map[uint32]bool{}
	tries     = map[uint32]try{}    // streams of the upstream chain
	onDeletes = map[uint32]string{} // what to run when a stream is over
)

func note(s string) { events = append(events, s) }

// vmUID is drawn when it is first asked for: package init may not call the
// host.
func vmUID() string {
	if uid == "" {
		var b [4]byte
		hostRandom(&b[0], 4)
		uid = strconv.FormatUint(uint64(binary.LittleEndian.Uint32(b[:])), 16)
	}
	return uid
}

// script runs commands that came as one word: "set,a,1,0+get,a".
func script(ctx uint32, word string) []string {
	var out []string
	for _, line := range strings.Split(word, "+") {
		out = append(out, run(ctx, strings.ReplaceAll(line, ",", " ")))
	}
	return out
}

//go:wasmexport proxy_abi_version_0_2_1
func abiVersion() {}

//go:wasmexport proxy_on_memory_allocate
func allocate(size uint32) *byte {
	b := make([]byte, max(size, 1))
	pinned = append(pinned, b)
	return &b[0]
}

func id(n uint32) string { return strconv.Itoa(int(n)) }

//go:wasmexport proxy_on_context_create
func onContextCreate(ctx, parent uint32) {
	note("create " + id(ctx) + "/" + id(parent))
	if config[parent] == attempt {
		tries[ctx] = try{}
	}
}

//go:wasmexport proxy_on_vm_start
func onVMStart(ctx, size uint32) uint32 {
	note("vmstart " + id(ctx))
	return 1
}

//go:wasmexport proxy_on_configure
func onConfigure(ctx, size uint32) uint32 {
	plugins++
	b, st := buffer(7, 0, 1<<20)
	config[ctx] = string(b)
	note("configure " + id(ctx) + " " + strconv.Itoa(int(size)))
	if st != "ok" {
		return 0
	}
	for _, line := range strings.Split(config[ctx], ";") {
		switch line = strings.TrimSpace(line); line {
		case "refuse":
			return 0
		case "refuse-second":
			if plugins > 1 {
				return 0
			}
		default:
			logText(2, run(ctx, line))
		}
	}
	return 1
}

//go:wasmexport proxy_on_request_headers
func onRequestHeaders(ctx, n, eos uint32) uint32 {
	pinned = nil
	if _, ok := tries[ctx]; ok {
		return onTry(ctx)
	}
	cmd, _ := header(0, "x-cmd")
	if later, st := header(0, "x-cmd-delete"); st == "ok" {
		onDeletes[ctx] = later
	}
	var action uint32
	var out []string
	for _, line := range strings.Split(cmd, ";") {
		if line = strings.TrimSpace(line); line == "pause" {
			action = 1
			held = append(held, ctx)
			out = append(out, "held:"+id(ctx))
		} else if line == "pause-body" {
			stopBody[ctx] = true
		} else if line != "" {
			out = append(out, run(ctx, line))
		}
	}
	if len(out) > 0 {
		text := strings.Join(out, " | ")
		changeHeader("replace", 0, "x-out", text)
		if tag, st := header(0, "x-tag"); st == "ok" {
			logText(2, "request "+tag+": "+text)
		}
	}
	return action
}

// attempt is the configuration of the plugin in the upstream chain.
const attempt = "attempt"

// try is what its request has told a stream of the upstream chain to do later.
type try struct{ answer, end string }

// onTry runs the commands of header x-try.
func onTry(ctx uint32) (action uint32) {
	cmd, _ := header(0, "x-try")
	answer, _ := header(0, "x-try-answer")
	end, _ := header(0, "x-try-end")
	tries[ctx] = try{answer, end}
	var out []string
	for _, line := range strings.Split(cmd, ";") {
		switch line = strings.TrimSpace(line); line {
		case "":
		case "pause":
			action = 1
			held = append(held, ctx)
		default:
			out = append(out, run(ctx, line))
		}
	}
	if len(out) > 0 {
		changeHeader("replace", 0, "x-try-out", strings.Join(out, " | "))
	}
	return action
}

//go:wasmexport proxy_on_request_body
func onRequestBody(ctx, n, eos uint32) uint32 {
	pinned = nil
	logText(2, "body: eos="+id(eos))
	if stopBody[ctx] {
		return 1
	}
	return 0
}

//go:wasmexport proxy_on_response_headers
func onResponseHeaders(ctx, n, eos uint32) uint32 {
	cmd, _ := header(2, "x-cmd-response")
	if t, ok := tries[ctx]; ok {
		cmd = t.answer
	}
	for _, line := range strings.Split(cmd, ";") {
		if line = strings.TrimSpace(line); line != "" {
			changeHeader("add", 2, "x-out", run(ctx, line))
		}
	}
	return 0
}

//go:wasmexport proxy_on_response_trailers
func onResponseTrailers(ctx, n uint32) uint32 {
	if status, st := header(3, "grpc-status"); st == "ok" {
		logText(2, "trailers: "+status)
	}
	return 0
}

//go:wasmexport proxy_on_log
func onLog(ctx uint32) {
	note("log " + id(ctx))
	cmd, _ := header(0, "x-cmd-log")
	for _, line := range strings.Split(cmd, ";") {
		if line = strings.TrimSpace(line); line != "" {
			logText(2, "log: "+run(ctx, line))
		}
	}
}

//go:wasmexport proxy_on_done
func onDone(ctx uint32) uint32 {
	note("done " + id(ctx))
	if strings.Contains(config[ctx], "slow-done") {
		return 0
	}
	return 1
}

//go:wasmexport proxy_on_delete
func onDelete(ctx uint32) {
	note("delete " + id(ctx))
	if t, ok := tries[ctx]; ok {
		if t.end != "" {
			note("end " + id(ctx) + " " + run(ctx, t.end))
		}
		delete(tries, ctx)
	}
	for _, line := range strings.Split(onDeletes[ctx], ";") {
		if line = strings.TrimSpace(line); line != "" {
			logText(2, "delete: "+run(ctx, line))
		}
	}
	delete(onDeletes, ctx)
}

//go:wasmexport proxy_on_tick
func onTick(ctx uint32) {
	pinned = nil
	note("tick " + id(ctx))
	if cmd, st, _ := getShared("on-tick"); st == "ok" {
		for _, out := range script(ctx, cmd) {
			logText(2, "tick: "+out)
		}
	}
}

//go:wasmexport proxy_on_http_call_response
func onAnswerCallback(ctx, token, headers, body, trailers uint32) {
	st, _ := header(6, ":status")
	b, _ := buffer(4, 0, body)
	logText(2, "answer "+id(token)+" to "+id(ctx)+": "+st+" "+string(b)+" headers="+id(headers))
}

//go:wasmexport proxy_on_queue_ready
func onQueueReady(ctx, token uint32) {
	pinned = nil
	item := run(ctx, "deq "+id(token))
	logText(2, "queue "+id(token)+": "+item)
	if word, ok := strings.CutPrefix(item, "ok:!"); ok {
		logText(2, "woken: "+strings.Join(script(ctx, word), " | "))
	}
}

func run(ctx uint32, line string) string {
	w := strings.Fields(line)
	if len(w) == 0 {
		return ""
	}
	for len(w) < 6 {
		w = append(w, "")
	}
	switch w[0] {
	case "get":
		v, st, cas := getShared(w[1])
		if st != "ok" {
			return st
		}
		return "ok:" + v + "@" + id(cas)
	case "set":
		return setShared(w[1], w[2], num(w[3]))
	case "incr": // read, step, compare and swap; once
		v, st, cas := getShared(w[1])
		if st != "ok" {
			return st
		}
		n, _ := strconv.Atoi(v)
		return setShared(w[1], strconv.Itoa(n+1), cas)
	case "prop":
		v, st := property(strings.ReplaceAll(w[1], ".", "\x00"))
		if st != "ok" {
			return st
		}
		return "ok:" + printable(v)
	case "setprop":
		return setProperty(w[1], w[2])
	case "hdr":
		v, st := header(num(w[1]), w[2])
		if st != "ok" {
			return st
		}
		return "ok:" + v
	case "add", "replace":
		return changeHeader(w[0], num(w[1]), w[2], w[3])
	case "remove":
		return name(hostRemoveHeader(num(w[1]), ptr(w[2]), uint32(len(w[2]))))
	case "pairs":
		return pairs(num(w[1]))
	case "define":
		var id uint32
		st := name(hostDefineMetric(num(w[1]), ptr(w[2]), uint32(len(w[2])), &id))
		return st + ":" + strconv.Itoa(int(id))
	case "inc":
		n, _ := strconv.ParseInt(w[2], 10, 64)
		return name(hostIncrementMetric(num(w[1]), n))
	case "rec":
		return name(hostRecordMetric(num(w[1]), uint64(num(w[2]))))
	case "read":
		var v uint64
		st := name(hostGetMetric(num(w[1]), &v))
		return st + ":" + strconv.FormatUint(v, 10)
	case "call":
		return call(w[1], num(w[2]), w[3])
	case "badcall":
		return callWith(w[1], pairsOf(":method", "GET"), 100, "")
	case "reply":
		return reply(num(w[1]), w[2], w[3])
	case "tick":
		return name(hostSetTick(num(w[1])))
	case "now":
		var v uint64
		hostNow(&v)
		return strconv.FormatUint(v, 10)
	case "effective":
		return name(hostSetEffective(num(w[1])))
	case "resume":
		return name(hostContinue(num(w[1])))
	case "regq":
		var token uint32
		st := name(hostRegisterQueue(ptr(w[1]), uint32(len(w[1])), &token))
		return st + ":" + id(token)
	case "enq":
		return name(hostEnqueue(num(w[1]), ptr(w[2]), uint32(len(w[2]))))
	case "deq":
		var p *byte
		var n uint32
		st := name(hostDequeue(num(w[1]), unsafe.Pointer(&p), &n))
		return st + ":" + text(p, n)
	case "foreign":
		var p *byte
		var n uint32
		return name(hostForeign(ptr(w[1]), uint32(len(w[1])), nil, 0, unsafe.Pointer(&p), &n))
	case "vm":
		return vmUID()
	case "define-as": // a metric that later commands call by its name
		var id uint32
		st := name(hostDefineMetric(num(w[1]), ptr(w[2]), uint32(len(w[2])), &id))
		metrics[w[2]] = id
		return st
	case "bump":
		n, _ := strconv.ParseInt(w[2], 10, 64)
		return name(hostIncrementMetric(metrics[w[1]], n))
	case "gauge":
		var v uint64
		st := name(hostGetMetric(metrics[w[1]], &v))
		return st + ":" + strconv.FormatUint(v, 10)
	case "add-cas": // read, step, compare and swap until it is through
		for {
			v, _, cas := getShared(w[1])
			n, _ := strconv.Atoi(v)
			if setShared(w[1], strconv.Itoa(n+1), cas) == "ok" {
				return "ok"
			}
		}
	case "casdiff": // how far apart the cas of two keys are
		_, _, a := getShared(w[1])
		_, _, b := getShared(w[2])
		return strconv.Itoa(int(int32(b - a)))
	case "cas": // sets with the key's own cas, plus an offset
		_, _, cas := getShared(w[1])
		return setShared(w[1], w[2], cas+num(w[3]))
	case "fill": // an item after the other into a queue
		for i := range num(w[2]) {
			if st := hostEnqueue(num(w[1]), ptr("m"+id(i)), uint32(len("m"+id(i)))); st != 0 {
				return name(st)
			}
		}
		return "ok"
	case "drain":
		for n := 0; ; n++ {
			if !strings.HasPrefix(run(ctx, "deq "+w[1]), "ok:") {
				return id(uint32(n))
			}
		}
	case "resolve":
		var token uint32
		st := name(hostResolveQueue(nil, 0, ptr(w[1]), uint32(len(w[1])), &token))
		return st + ":" + id(token)
	case "held":
		var ids []string
		for _, c := range held {
			ids = append(ids, id(c))
		}
		return strings.Join(ids, ",")
	case "release": // the oldest that is held, on the word of another callback
		if len(held) == 0 {
			return "none"
		}
		c := held[0]
		held = held[1:]
		if st := hostSetEffective(c); st != 0 {
			return name(st)
		}
		return name(hostContinue(0))
	case "answer-held":
		if len(held) == 0 {
			return "none"
		}
		c := held[0]
		held = held[1:]
		if st := hostSetEffective(c); st != 0 {
			return name(st)
		}
		return reply(num(w[1]), w[2], "bare")
	case "retime": // shortens the upstream's time of a held request, and lets it go
		if len(held) == 0 {
			return "none"
		}
		c := held[0]
		held = held[1:]
		if st := hostSetEffective(c); st != 0 {
			return name(st)
		}
		if st := changeHeader("replace", 0, "x-envoy-upstream-rq-timeout-ms", w[1]); st != "ok" {
			return st
		}
		return name(hostContinue(0))
	case "callpath": // cluster, timeout in ms, path
		return callWith(w[1], pairsOf(":method", "POST", ":path", w[3], ":authority", "a"), num(w[2]), "body")
	case "clocks": // how far the ABI's clock and WASI's are apart, in ms
		var v uint64
		hostNow(&v)
		return strconv.FormatInt((time.Now().UnixNano()-int64(v))/1e6, 10)
	case "config":
		b, st := buffer(7, 0, 1<<20)
		return st + ":" + string(b)
	case "done":
		return name(hostDone())
	case "count":
		count++
		return strconv.Itoa(count)
	case "context":
		return id(ctx)
	case "events":
		return strings.Join(events, ",")
	case "panic":
		panic("asked to")
	case "nilderef":
		var p *int
		return strconv.Itoa(*p)
	case "oom":
		for {
			ballast = append(ballast, make([]byte, 1<<20))
		}
	}
	return "?" + line
}

func num(s string) uint32 {
	n, _ := strconv.ParseInt(s, 0, 64)
	return uint32(n)
}

func printable(b string) string {
	for i := range len(b) {
		if b[i] < ' ' || b[i] > '~' {
			n := uint64(0)
			for j := len(b) - 1; j >= 0; j-- {
				n = n<<8 | uint64(b[j])
			}
			return "le" + strconv.Itoa(len(b)) + "=" + strconv.FormatUint(n, 10)
		}
	}
	return b
}

func ptr(s string) *byte { return unsafe.StringData(s) }

func text(p *byte, n uint32) string {
	if n == 0 {
		return ""
	}
	return string(unsafe.Slice(p, n))
}
