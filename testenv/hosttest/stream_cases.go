package hosttest

import (
	"fmt"
	"strings"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seawall-mesh/seawall/testenv/host"
)

// Pause and resume (filter 3, FACTS 12).
var pauseCases = []conformance{
	{name: "ActionPause holds the request", run: func(w world) {
		s, _ := w.hold(0)
		_, reached := s.Upstream()
		require.False(w.t, reached)
		w.do(0, "release")
		_, reached = s.Upstream()
		require.True(w.t, reached)
		s.Respond(host.Response{Code: 204})
		require.Equal(w.t, 204, s.Done().Status)
	}},
	{name: "a tick lets it go", run: func(w world) {
		s, _ := w.hold(0)
		w.do(0, "set on-tick release+tick,0 0; tick 10")
		_, reached := s.Upstream()
		require.True(w.t, reached)
		require.Equal(w.t, []string{"ok", "ok"}, w.logged("tick: ", 2))
		s.Respond(host.Response{})
		require.Equal(w.t, 200, s.Done().Status)
	}},
	{name: "a tick answers it", run: func(w world) {
		s, _ := w.hold(0)
		w.do(0, "set on-tick answer-held,503,late+tick,0 0; tick 10")
		r := s.Done()
		require.Equal(w.t, 503, r.Status)
		require.Equal(w.t, "late", string(r.Body))
		require.Equal(w.t, "3", r.Headers.Get("retry-after"))
		require.False(w.t, r.Upstream)
	}},
	{name: "a tick that lets one go and answers another in one callback", run: func(w world) {
		a, _ := w.hold(0)
		b, _ := w.hold(0)
		w.do(0, "set on-tick release+answer-held,503,late+tick,0 0; tick 10")
		require.Equal(w.t, 503, b.Done().Status)
		_, reached := a.Upstream()
		require.True(w.t, reached)
		a.Respond(host.Response{})
		require.Equal(w.t, 200, a.Done().Status)
	}},
	{name: "a body waits with its headers", run: func(w world) {
		r := request("pause", "x-tag", "b")
		r.Method, r.Body = "POST", []byte("hello")
		s := w.Request(0, r)
		w.logged("request b: ", 1)
		_, reached := s.Upstream()
		require.False(w.t, reached)
		require.Empty(w.t, w.logs("body b: "))
		w.do(0, "release")
		_, reached = s.Upstream()
		require.True(w.t, reached)
		require.NotEmpty(w.t, w.logged("body: ", 1))
		s.Respond(host.Response{})
		require.Equal(w.t, 200, s.Done().Status)
	}},
	{
		name: "with allow_on_headers_stop_iteration a body that is not stopped lets its headers go",
		opt:  Options{HeadersStopIteration: true}, run: func(w world) {
			r := request("pause", "x-tag", "b")
			r.Method, r.Body = "POST", []byte("hello")
			s := w.Request(0, r)
			_, reached := s.Upstream()
			require.True(w.t, reached)
			require.NotEmpty(w.t, w.logged("body: ", 1))
			s.Respond(host.Response{})
			require.Equal(w.t, 200, s.Done().Status)
		},
	},
	{
		name: "with it a body that is stopped waits with its headers",
		opt:  Options{HeadersStopIteration: true}, run: func(w world) {
			r := request("pause; pause-body", "x-tag", "b")
			r.Method, r.Body = "POST", []byte("hello")
			s := w.Request(0, r)
			w.logged("body: ", 1)
			_, reached := s.Upstream()
			require.False(w.t, reached)
			w.do(0, "release")
			_, reached = s.Upstream()
			require.True(w.t, reached)
			s.Respond(host.Response{})
			require.Equal(w.t, 200, s.Done().Status)
		},
	},
	{name: "headers can be changed while it is held, from another callback", run: func(w world) {
		s, ctx := w.hold(0, "x-old", "1")
		w.do(0, "set on-tick effective,"+ctx+"+replace,0,x-new,1+remove,0,x-old+hdr,0,x-new+resume,0+tick,0 0; tick 10")
		require.Equal(w.t, []string{"ok", "ok", "ok", "ok:1", "ok", "ok"}, w.logged("tick: ", 6))
		hs, reached := s.Upstream()
		require.True(w.t, reached)
		require.Equal(w.t, "1", hs.Get("x-new"))
		require.False(w.t, hs.Has("x-old"))
		s.Respond(host.Response{})
		s.Done()
	}},
	{name: "properties of a held request are those of the effective context", run: func(w world) {
		r := request("pause", "x-tag", "p")
		r.Route = "payments/charge"
		s := w.Request(0, r)
		w.logged("request p: ", 1)
		w.do(0, "set on-tick effective,"+strings.TrimPrefix(w.logs("request p: ")[0], "held:")+"+prop,xds.route_name+resume,0+tick,0 0; tick 10")
		require.Equal(w.t, []string{"ok", "ok:payments/charge", "ok", "ok"}, w.logged("tick: ", 4))
		s.Upstream()
		s.Respond(host.Response{})
		s.Done()
	}},
	{name: "a client that leaves ends it, and its context is gone", run: func(w world) {
		s, ctx := w.hold(0, "x-cmd-log", "prop response.code; context")
		s.Abort()
		require.Zero(w.t, s.Done().Status)
		require.Equal(w.t, []string{"notfound", ctx}, w.logged("log: ", 2))
		w.do(0, "set on-tick effective,"+ctx+"+tick,0 0; tick 10")
		require.Equal(w.t, "badarg", w.logged("tick: ", 1)[0])
	}},
	{name: "resuming twice, or what was never held, harms nobody", run: func(w world) {
		s, ctx := w.hold(0)
		w.do(0, "set on-tick effective,"+ctx+"+resume,0+resume,0+tick,0 0; tick 10")
		s.Upstream()
		w.logged("tick: ", 4)
		w.do(0, "set on-tick effective,"+ctx+"+resume,0+tick,0 0; tick 10")
		require.Equal(w.t, "ok", w.logged("tick: ", 6)[5])
		s.Respond(host.Response{})
		require.Equal(w.t, 200, s.Done().Status)
	}},
	{name: "a reply to a request that was let go a moment before", run: func(w world) {
		s, ctx := w.hold(0)
		w.do(0, "release")
		s.Upstream()
		w.do(0, "set on-tick effective,"+ctx+"+reply,503,late,bare+tick,0 0; tick 10")
		require.Equal(w.t, 503, s.Done().Status)
	}},
	{name: "a held request whose VM dies hears nothing until its client leaves", run: func(w world) {
		s, _ := w.hold(0)
		w.Pass(2 * ReloadBackoff)
		require.Equal(w.t, 503, w.answer(0, request("panic"), host.Response{}).Status)
		require.NotEmpty(w.t, w.do(0, "vm"), "reloaded")
		_, reached := s.Upstream()
		require.False(w.t, reached)
		w.do(0, "release")
		_, reached = s.Upstream()
		require.False(w.t, reached, "it belongs to the dead VM")
		s.Abort()
		require.Zero(w.t, s.Done().Status)
	}},
}

// Headers.
var headerCases = []conformance{
	{name: "by name a guest gets the first of repeated values", run: func(w world) {
		s := w.Request(0, request("hdr 0 x-a; hdr 0 none", "x-a", "1", "x-a", "2"))
		hs, _ := s.Upstream()
		require.Equal(w.t, "ok:1 | notfound", hs.Get("x-out"))
		s.Respond(host.Response{})
		s.Done()
	}},
	{name: "names are looked up, set and removed in any case", run: func(w world) {
		s := w.Request(0, request("hdr 0 X-Mixed; replace 0 X-Mixed 2; hdr 0 x-mixed; remove 0 X-GONE", "x-mixed", "1", "x-gone", "1"))
		hs, _ := s.Upstream()
		require.Equal(w.t, "ok:1 | ok | ok:2 | ok", hs.Get("x-out"))
		require.False(w.t, hs.Has("x-gone"))
		s.Respond(host.Response{})
		s.Done()
	}},
	{name: "changes reach the upstream", run: func(w world) {
		s := w.Request(0, request("remove 0 x-drop; replace 0 x-keep 2; add 0 x-new 3; add 0 x-keep 4; remove 0 x-none", "x-drop", "1", "x-keep", "1"))
		hs, _ := s.Upstream()
		require.Equal(w.t, "ok | ok | ok | ok | ok", hs.Get("x-out"))
		require.False(w.t, hs.Has("x-drop"))
		require.Equal(w.t, "3", hs.Get("x-new"))
		var keep []string
		for _, h := range hs {
			if h.Name == "x-keep" {
				keep = append(keep, h.Value)
			}
		}
		require.Equal(w.t, []string{"2", "4"}, keep)
		s.Respond(host.Response{})
		s.Done()
	}},
	{name: "replacing a repeated header leaves one", run: func(w world) {
		s := w.Request(0, request("replace 0 x-a 3", "x-a", "1", "x-a", "2"))
		hs, _ := s.Upstream()
		n := 0
		for _, h := range hs {
			if h.Name == "x-a" {
				n++
				require.Equal(w.t, "3", h.Value)
			}
		}
		require.Equal(w.t, 1, n)
		s.Respond(host.Response{})
		s.Done()
	}},
	{name: "in response callbacks the request is gone", run: func(w world) {
		r := w.answer(0, host.Request{}, host.Response{Headers: host.H("x-cmd-response", "hdr 0 :path; hdr 2 :status; pairs 0; prop request.path; prop response.code; prop xds.route_name")})
		var out []string
		for _, h := range r.Headers {
			if h.Name == "x-out" {
				out = append(out, h.Value)
			}
		}
		require.Equal(w.t, []string{"badarg", "ok:200", "ok:", "notfound", "ok:le8=200", "ok:"}, out)
	}},
	{name: "in on_log both are back, to read", run: func(w world) {
		r := request("vm", "x-cmd-log", "hdr 0 :path; hdr 2 :status; add 0 x y; replace 2 x y")
		r.Path = "/logged"
		w.answer(0, r, host.Response{Code: 204})
		require.Equal(w.t, []string{"ok:/logged", "ok:204", "badarg", "badarg"}, w.logged("log: ", 4))
	}},
	{name: "a status that a filter replaces is what the client gets, and what is logged", run: func(w world) {
		r := w.answer(0, request("vm", "x-cmd-log", "prop response.code"), host.Response{Code: 503, Headers: host.H("x-cmd-response", "replace 2 :status 200")})
		require.Equal(w.t, 200, r.Status)
		require.Equal(w.t, []string{"ok:le8=200"}, w.logged("log: ", 1))
	}},
}

// Replies of the filter's own (filter 5, 14, extra).
var replyCases = []conformance{
	{name: "as it was given, duplicates too", run: func(w world) {
		r := w.Request(0, request("reply 429 {}")).Done()
		require.Equal(w.t, 429, r.Status)
		require.Equal(w.t, "application/problem+json", r.Headers.Get("content-type"))
		require.Equal(w.t, "2", r.Headers.Get("content-length"))
		require.Equal(w.t, "{}", string(r.Body))
		var dup []string
		for _, h := range r.Headers {
			if h.Name == "x-dup" {
				dup = append(dup, h.Value)
			}
		}
		require.Equal(w.t, []string{"a", "b"}, dup)
		require.False(w.t, r.Upstream)
	}},
	{name: "HEAD gets no body", run: func(w world) {
		q := request("reply 503 hi bare")
		q.Method = "HEAD"
		r := w.Request(0, q).Done()
		require.Equal(w.t, 503, r.Status)
		require.Equal(w.t, "text/plain", r.Headers.Get("content-type"))
		require.Equal(w.t, "2", r.Headers.Get("content-length"))
		require.Empty(w.t, r.Body)
	}},
	{name: "gRPC gets trailers only", run: func(w world) {
		r := w.Request(0, request("reply 503 no!%", "content-type", "application/grpc")).Done()
		require.Equal(w.t, 200, r.Status)
		require.Equal(w.t, "application/grpc", r.Headers.Get("content-type"))
		require.Equal(w.t, "14", r.Headers.Get("grpc-status"))
		require.Equal(w.t, "no!%25", r.Headers.Get("grpc-message"))
		require.Equal(w.t, "a", r.Headers.Get("x-dup"))
		require.Empty(w.t, r.Body)
	}},
	{name: "the first of two wins", run: func(w world) {
		r := w.Request(0, request("reply 503 one bare; reply 504 two bare")).Done()
		require.Equal(w.t, 503, r.Status)
		require.Equal(w.t, "one", string(r.Body))
	}},
	{name: "it has no flags and empty details", run: func(w world) {
		w.Request(0, request("reply 429 x bare", "x-cmd-log", "prop response.code; prop response.flags; prop response.code_details; prop upstream.address")).Done()
		require.Equal(w.t, []string{"ok:le8=429", "ok:le8=0", "ok:", "notfound"}, w.logged("log: ", 4))
	}},
	{name: "from the response path it replaces the upstream's", run: func(w world) {
		r := w.answer(0, host.Request{}, host.Response{Code: 503, Body: []byte("upstream"), Headers: host.H("x-cmd-response", "reply 200 fallback bare", "x-up", "1")})
		require.Equal(w.t, 200, r.Status)
		require.Equal(w.t, "fallback", string(r.Body))
		require.False(w.t, r.Headers.Has("x-up"))
	}},
}

// outcome is a case of how a request can end, and what on_log says of it. By
// on_delete, which can still read the same, the listener's access log has
// counted it, or not.
func outcome(name string, req host.Request, resp host.Response, status int, code, flags, details string) conformance {
	return conformance{name: name, run: func(w world) {
		req := req
		const say = "prop response.code; prop response.flags; prop response.code_details"
		req.Headers = host.H("x-cmd", "define-as 0 "+EndCounter, "x-cmd-log", say, "x-cmd-delete", say+"; prop xds.route_name; gauge "+EndCounter)
		counted := w.Metrics()[EndCounter]
		if status >= 400 || flags != number(0) {
			counted++
		}
		route := "ok:"
		if req.NoRoute {
			route = "notfound"
		}
		require.Equal(w.t, status, w.answer(0, req, resp).Status)
		require.Equal(w.t, []string{code, flags, details}, w.logged("log: ", 3))
		require.Equal(w.t, []string{code, flags, details, route, fmt.Sprintf("ok:%d", counted)}, w.logged("delete: ", 5))
	}}
}

func number(n uint64) string { return fmt.Sprintf("ok:le8=%d", n) }

// Properties (filter 7, FACTS 15).
var propertyCases = []conformance{
	{name: "the route's name; that of a route without one is empty; no route has none", run: func(w world) {
		ask := func(r host.Request) string {
			r.Headers = host.H("x-cmd", "prop xds.route_name; context", "x-tag", "route-"+r.Route)
			s := w.Request(0, r)
			s.Upstream()
			s.Respond(host.Response{Code: 404, Details: "route_not_found", Flags: host.FlagNoRouteFound})
			s.Done()
			lines := w.logged("request route-"+r.Route+": ", 1)
			return strings.Split(lines[len(lines)-1], " | ")[0]
		}
		require.Equal(w.t, "ok:payments/charge", ask(host.Request{Route: "payments/charge"}))
		require.Equal(w.t, "ok:", ask(host.Request{}))
		s := w.Request(0, host.Request{NoRoute: true, Headers: host.H("x-cmd", "prop xds.route_name", "x-tag", "none")})
		s.Upstream()
		s.Respond(host.Response{Code: 404, Details: "route_not_found", Flags: host.FlagNoRouteFound})
		s.Done()
		require.Equal(w.t, []string{"notfound"}, w.logged("request none: ", 1))
	}},
	{name: "in plugin start the node's id is readable by xds.node only", opt: Options{Config: "prop xds.node.id; prop node.id; prop plugin_name; prop xds.route_name"}, run: func(w world) {
		w.do(0, "vm")
		lines := w.Logs()
		require.Contains(w.t, lines, "ok:"+NodeID)
		require.Contains(w.t, lines, "ok:seawall")
		require.Contains(w.t, lines, "notfound")
	}},
	command("what is not there at top level", "prop route_name; prop cluster_name; prop node.id; prop worker_id", "notfound | notfound | notfound | notfound"),
	command("code, flags and duration of a request that is on its way", "prop response.code; prop request.duration", "notfound | notfound"),
	command("request headers by name", "prop request.headers.x-cmd; prop request.method; prop request.url_path", "ok:prop request.headers.x-cmd; prop request.method; prop request.url_path | ok:GET | ok:/"),
	command("state is kept per stream", "setprop own v; prop own; prop wasm.own", "ok | ok:v | notfound"),
	{name: "duration is in ns, once the request is over", run: func(w world) {
		s := w.Request(0, request("vm", "x-cmd-log", "prop request.duration"))
		s.Upstream()
		w.Pass(50 * time.Millisecond)
		s.Respond(host.Response{})
		s.Done()
		var ns int64
		_, err := fmt.Sscanf(w.logged("log: ", 1)[0], "ok:le8=%d", &ns)
		require.NoError(w.t, err)
		require.GreaterOrEqual(w.t, ns, int64(50*time.Millisecond))
		require.Less(w.t, ns, int64(2*time.Second))
	}},
	outcome("a good answer of an upstream", host.Request{}, host.Response{Code: 204}, 204, number(204), number(0), "ok:via_upstream"),
	outcome("an upstream's answer", host.Request{}, host.Response{Code: 503}, 503, number(503), number(0), "ok:via_upstream"),
	outcome("a refused connection", host.Request{Cluster: "refused"}, host.ConnectRefused, 503, number(503), number(host.FlagUpstreamConnectionFailure), "ok:"+host.ConnectRefused.Details),
	outcome("a reset", host.Request{}, host.UpstreamReset, 503, number(503), number(host.FlagUpstreamConnectionClosed), "ok:"+host.UpstreamReset.Details),
	outcome("a reset in mid-body", host.Request{}, host.MidBodyReset, 200, number(200), number(host.FlagUpstreamProtocolError), "ok:"+host.MidBodyReset.Details),
	outcome("no healthy upstream", host.Request{Cluster: "empty"}, host.NoHealthyUpstream, 503, number(503), number(host.FlagNoHealthyUpstream), "ok:no_healthy_upstream"),
	outcome("a full circuit breaker of the cluster", host.Request{Cluster: "full"}, host.Overflow, 503, number(503), number(host.FlagUpstreamOverflow), "ok:"+host.Overflow.Details),
	outcome("a direct response", host.Request{Cluster: "direct"}, host.DirectNotFound, 404, number(404), number(0), "ok:direct_response"),
	outcome("no route", host.Request{NoRoute: true}, host.NoRoute, 404, number(404), number(host.FlagNoRouteFound), "ok:route_not_found"),
	{name: "gRPC status: from trailers, from headers, or made up, where 200 is UNKNOWN", run: func(w world) {
		log := []string{"x-cmd-log", "prop response.grpc_status"}
		grpc := host.H("content-type", "application/grpc")
		r := request("vm", log...)
		r.Cluster = "http2"
		w.answer(0, r, host.Response{Headers: grpc, Trailers: host.H("grpc-status", "13")})
		w.answer(0, request("vm", log...), host.Response{Headers: append(grpc, host.H("grpc-status", "7")...)})
		w.answer(0, request("vm", log...), host.Response{Code: 503})
		w.answer(0, request("vm", log...), host.Response{})
		require.Equal(w.t, []string{number(13), number(7), number(14), number(2)}, w.logged("log: ", 4))
	}},
	{name: "by on_delete the gRPC status is gone with headers and trailers; metadata stays", run: func(w world) {
		later := []string{"x-cmd-delete", "prop response.grpc_status; prop metadata.filter_metadata." + MetadataNamespace + ".grpc-status"}
		grpc := host.H("content-type", "application/grpc")
		r := request("vm", later...)
		r.Cluster = "http2"
		w.answer(0, r, host.Response{Headers: grpc, Trailers: host.H("grpc-status", "13")})
		require.Equal(w.t, []string{"13"}, w.logged("trailers: ", 1))
		w.answer(0, request("vm", later...), host.Response{Headers: append(grpc, host.H("grpc-status", "7")...)})
		w.answer(0, request("vm", later...), host.Response{Code: 503})
		require.Equal(w.t, []string{number(2), "notfound", number(2), "ok:7", number(14), "notfound"}, w.logged("delete: ", 6))
		require.Len(w.t, w.logged("trailers: ", 1), 1)
	}},
	{name: "a gRPC answer of the filter's own is in the metadata too", run: func(w world) {
		r := request("reply 503 no", "content-type", "application/grpc", "x-cmd-delete", "prop metadata.filter_metadata."+MetadataNamespace+".grpc-status")
		w.Request(0, r).Done()
		require.Equal(w.t, []string{"ok:14"}, w.logged("delete: ", 1))
	}},
	left("over HTTP/2, while the upstream works", false, false, number(host.FlagDownstreamRemoteReset), "ok:http2.remote_reset"),
	left("over HTTP/2, while its request is held", false, true, number(host.FlagDownstreamRemoteReset), "ok:http2.remote_reset"),
	left("over HTTP/1.1, while the upstream works", true, false, number(host.FlagDownstreamDisconnect), "ok:downstream_remote_disconnect"),
	left("over HTTP/1.1, while its request is held", true, true, number(host.FlagDownstreamDisconnect), "ok:downstream_remote_disconnect"),
}

// left is a case of a client that leaves before an answer.
func left(name string, http1, held bool, flags, details string) conformance {
	return conformance{name: "a client that leaves " + name, run: func(w world) {
		cmd := "vm"
		if held {
			cmd = "pause"
		}
		const say = "prop response.code; prop response.flags; prop response.code_details"
		r := request("define-as 0 "+EndCounter+"; "+cmd, "x-tag", "left", "x-cmd-log", say, "x-cmd-delete", say+"; gauge "+EndCounter)
		counted := w.Metrics()[EndCounter] + 1
		var s Stream
		if http1 {
			s = w.RequestHTTP1(r)
		} else {
			s = w.Request(0, r)
		}
		w.logged("request left: ", 1)
		_, reached := s.Upstream()
		require.Equal(w.t, !held, reached)
		s.Abort()
		require.Zero(w.t, s.Done().Status)
		require.Equal(w.t, []string{"notfound", flags, details}, w.logged("log: ", 3))
		require.Equal(w.t, []string{"notfound", flags, details, fmt.Sprintf("ok:%d", counted)}, w.logged("delete: ", 4))
	}}
}
