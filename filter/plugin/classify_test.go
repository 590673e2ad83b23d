package plugin

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seawall-mesh/seawall/filter/contract"
	"github.com/seawall-mesh/seawall/filter/engine/breaker"
)

// The signatures are those of a real Envoy 1.40 (facts/filter.md 7, facts/xds.md
// 10, and this filter's own runs).
func TestClassify(t *testing.T) {
	t.Parallel()
	const early, late = "upstream_reset_before_response_started", "upstream_reset_after_response_started"
	local := func(code int, flags int64, details string) ending {
		return ending{code: code, flags: flags, details: details, grpc: -1}
	}
	answered := func(code int) ending { return ending{code: code, details: "via_upstream", grpc: -1} }
	grpc := func(code int, status int64) ending {
		return ending{code: code, details: "via_upstream", grpc: status}
	}
	cases := map[string]struct {
		e        ending
		want     contract.Outcome
		upstream bool
	}{
		"200, details not read":    {ending{code: 200, grpc: -1}, contract.OK, true},
		"101":                      {answered(101), contract.OK, true},
		"101, the service ends it": {local(101, 64, late+"{connection_termination}"), contract.OK, true},
		"101, the client ends it":  {local(101, 1<<14, "downstream_remote_disconnect"), contract.OK, true},
		"gRPC, Envoy's own 404":    {ending{code: 200, details: "direct_response", grpc: 12}, contract.ClientError, false},
		"gRPC, Envoy's own 413":    {ending{code: 200, details: "request_payload_too_large", grpc: 8}, contract.ClientError, false},
		"gRPC, Envoy's own 504":    {ending{code: 200, flags: 1 << 12, details: "stream_idle_timeout", grpc: 4}, contract.Timeout, false},
		"304":                      {answered(304), contract.OK, true},
		"404 of the upstream":      {answered(404), contract.ClientError, true},
		"503 of the upstream":      {answered(503), contract.ServerError, true},
		"503 after retries":        {local(503, 1<<15, "via_upstream"), contract.ServerError, true},
		"504 of the upstream":      {answered(504), contract.ServerError, true},
		"no route":                 {local(404, 1<<8, "route_not_found"), contract.ClientError, false},
		"direct response":          {local(404, 0, "direct_response"), contract.ClientError, false},
		"refused":                  {local(503, 32, early+"{remote_connection_failure|delayed_connect_error:_Connection_refused}"), contract.ConnectFailure, false},
		"refused, retries over":    {local(503, 1<<15|32, early+"{remote_connection_failure}"), contract.ConnectFailure, false},
		"no healthy upstream":      {local(503, 2, "no_healthy_upstream"), contract.ConnectFailure, false},
		"dns":                      {local(503, 1<<26, "dns_resolution_failure"), contract.ConnectFailure, false},
		"overflow":                 {local(503, 128, early+"{overflow}"), contract.BulkheadFull, false},
		"reset":                    {local(503, 64, early+"{connection_termination}"), contract.Reset, false},
		"reset, no more retries":   {local(503, 128|64, early+"{connection_termination}"), contract.Reset, false},
		"refused, no more retries": {local(503, 128|32, early+"{remote_connection_failure}"), contract.ConnectFailure, false},
		"timeout, no more retries": {local(504, 128|4, "upstream_per_try_timeout"), contract.Timeout, false},
		"503, no more retries":     {local(503, 128, "via_upstream"), contract.ServerError, true},
		"remote reset":             {local(503, 16, early+"{remote_reset}"), contract.Reset, false},
		"protocol error":           {local(502, 1<<23, early+"{protocol_error}"), contract.Reset, false},
		"reset in the body":        {local(200, 1<<23, late+"{protocol_error}"), contract.Reset, false},
		"route timeout":            {local(504, 4, "response_timeout"), contract.Timeout, false},
		"per-try timeout":          {local(504, 1<<15|4, "upstream_per_try_timeout"), contract.Timeout, false},
		"max stream duration":      {local(504, 1<<19, "max_duration_timeout"), contract.Timeout, false},
		"idle timeout, 504":        {local(504, 1<<16, "stream_idle_timeout"), contract.Timeout, false},
		"idle timeout, 408":        {local(408, 1<<16, "stream_idle_timeout"), contract.ClientError, false},
		"request timeout":          {local(408, 0, "request_overall_timeout"), contract.ClientError, false},
		"too large":                {local(413, 0, "request_payload_too_large"), contract.ClientError, false},
		"bad request":              {local(400, 1<<18, "invalid_path"), contract.ClientError, false},
		"no cluster":               {local(503, 1<<24, "cluster_not_found"), contract.ServerError, false},
		"overload manager":         {local(503, 1<<25, "overload"), contract.Shed, false},
		"drop overload":            {local(503, 1<<27, "drop_overload"), contract.Shed, false},
		"fault filter":             {local(503, 1<<10, "fault_filter_abort"), contract.Injected, false},
		"client left":              {local(0, 1<<14, "downstream_remote_disconnect"), contract.Aborted, false},
		"client left, no flags":    {local(0, 0, ""), contract.Aborted, false},
		"client reset":             {local(0, 1<<28, "downstream_remote_reset"), contract.Aborted, false},
		"left in the body":         {local(200, 1<<14, "downstream_remote_disconnect"), contract.OK, false},
		"upstream gone, no answer": {local(0, 64, ""), contract.Reset, false},
		"gRPC ok":                  {grpc(200, 0), contract.OK, true},
		"gRPC cancelled":           {grpc(200, 1), contract.ClientError, true},
		"gRPC unknown":             {grpc(200, 2), contract.ServerError, true},
		"gRPC invalid argument":    {grpc(200, 3), contract.ClientError, true},
		"gRPC deadline":            {grpc(200, 4), contract.Timeout, true},
		"gRPC exhausted":           {grpc(200, 8), contract.ClientError, true},
		"gRPC internal":            {grpc(200, 13), contract.ServerError, true},
		"gRPC unavailable":         {grpc(200, 14), contract.ServerError, true},
		"gRPC data loss":           {grpc(200, 15), contract.ServerError, true},
		"gRPC, Envoy's reply":      {ending{code: 200, flags: 32, details: early + "{remote_connection_failure}", grpc: 14}, contract.ConnectFailure, false},
		"gRPC, Envoy's timeout":    {ending{code: 200, flags: 4, details: "response_timeout", grpc: 4}, contract.Timeout, false},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, upstream := classify(c.e)
			require.Equal(t, c.want.String(), got.String())
			require.Equal(t, c.upstream, upstream)
		})
	}
}

func TestVerdict(t *testing.T) {
	t.Parallel()
	set := func(words ...string) *cell {
		failures, bad, ok := contract.ParseOutcomeSet(words)
		require.True(t, ok, bad)
		return &cell{failures: failures}
	}
	cases := map[string]struct {
		c        *cell
		o        contract.Outcome
		status   uint16
		upstream bool
		want     breaker.Verdict
	}{
		"ok":                       {set("5xx"), contract.OK, 200, true, breaker.Success},
		"4xx is the caller's":      {set("5xx"), contract.ClientError, 404, true, breaker.Success},
		"5xx":                      {set("5xx"), contract.ServerError, 500, true, breaker.Failure},
		"5xx not listed":           {set("503"), contract.ServerError, 500, true, breaker.Success},
		"status listed":            {set("503"), contract.ServerError, 503, true, breaker.Failure},
		"status, Envoy's reply":    {set("503"), contract.ServerError, 503, false, breaker.Neutral},
		"429 listed":               {set("429"), contract.ClientError, 429, true, breaker.Failure},
		"Envoy's own 413":          {set("5xx"), contract.ClientError, 413, false, breaker.Neutral},
		"timeout":                  {set("timeout"), contract.Timeout, 504, false, breaker.Failure},
		"timeout not listed":       {set("5xx"), contract.Timeout, 504, false, breaker.Neutral},
		"client left":              {set("5xx"), contract.Aborted, 0, false, breaker.Neutral},
		"client left, even listed": {set("aborted"), contract.Aborted, 0, false, breaker.Neutral},
		"injected":                 {set("5xx"), contract.Injected, 503, false, breaker.Neutral},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, c.want, verdict(c.c, c.o, c.status, c.upstream).Verdict)
		})
	}
}
