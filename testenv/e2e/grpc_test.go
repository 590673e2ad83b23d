//go:build linux

package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	grpcstatus "google.golang.org/grpc/status"
)

// grpcService is the test service that grpc-go ships, made to do what a call's
// metadata says.
type grpcService struct {
	pb.UnimplementedTestServiceServer
	calls  atomic.Int64
	mu     sync.Mutex
	left   []time.Duration // until the deadline of each call that had one
	leave  chan struct{}   // closed: calls that wait go on
	inside atomic.Int64
}

const (
	mdCode  = "x-test-code"  // the status to answer with
	mdFails = "x-test-fails" // how many of the service's calls answer with it, default all
	mdWait  = "x-test-wait"  // wait for leave, or the end of the call
)

func startGRPC(t testing.TB) (*grpcService, string) {
	t.Helper()
	s := &grpcService{leave: make(chan struct{})}
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	server := grpc.NewServer()
	pb.RegisterTestServiceServer(server, s)
	served := make(chan error, 1)
	go func() { served <- server.Serve(lis) }()
	t.Cleanup(func() {
		server.Stop()
		require.NoError(t, <-served)
	})
	return s, lis.Addr().String()
}

// obey does what a call's metadata says.
func (s *grpcService) obey(ctx context.Context) error {
	n := s.calls.Add(1)
	s.inside.Add(1)
	defer s.inside.Add(-1)
	if deadline, ok := ctx.Deadline(); ok {
		s.mu.Lock()
		s.left = append(s.left, time.Until(deadline))
		s.mu.Unlock()
	}
	md, _ := metadata.FromIncomingContext(ctx)
	first := func(name string) int64 {
		if values := md.Get(name); len(values) > 0 {
			k, _ := strconv.ParseInt(values[0], 10, 64)
			return k
		}
		return 0
	}
	if first(mdWait) != 0 {
		select {
		case <-s.leave:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if code := first(mdCode); code != 0 && (first(mdFails) == 0 || n <= first(mdFails)) {
		return grpcstatus.Error(codes.Code(code), "as asked")
	}
	return nil
}

func (s *grpcService) UnaryCall(ctx context.Context, in *pb.SimpleRequest) (*pb.SimpleResponse, error) {
	if err := s.obey(ctx); err != nil {
		return nil, err
	}
	return &pb.SimpleResponse{Payload: in.GetPayload()}, nil
}

// FullDuplexCall echoes until the client ends, and then does what the metadata
// says.
func (s *grpcService) FullDuplexCall(stream pb.TestService_FullDuplexCallServer) error {
	for {
		in, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return s.obey(stream.Context())
		}
		if err != nil {
			return err
		}
		if err := stream.Send(&pb.StreamingOutputCallResponse{Payload: in.GetPayload()}); err != nil {
			return err
		}
	}
}

// StreamingInputCall adds up what it gets.
func (s *grpcService) StreamingInputCall(stream pb.TestService_StreamingInputCallServer) error {
	total := 0
	for {
		in, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return errors.Join(s.obey(stream.Context()), stream.SendAndClose(&pb.StreamingInputCallResponse{AggregatedPayloadSize: int32(total)}))
		}
		if err != nil {
			return err
		}
		total += len(in.GetPayload().GetBody())
	}
}

// StreamingOutputCall sends what it is asked for.
func (s *grpcService) StreamingOutputCall(in *pb.StreamingOutputCallRequest, stream pb.TestService_StreamingOutputCallServer) error {
	for _, p := range in.GetResponseParameters() {
		if err := stream.Send(&pb.StreamingOutputCallResponse{Payload: &pb.Payload{Body: make([]byte, p.GetSize())}}); err != nil {
			return err
		}
	}
	return s.obey(stream.Context())
}

// dialGRPC is a client of a host behind the edge.
func dialGRPC(t testing.TB, listen, host string) pb.TestServiceClient {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+listen, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithAuthority(host), grpc.WithDisableRetry())
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return pb.NewTestServiceClient(conn)
}

// asking is a call's metadata, by name and value.
func asking(t testing.TB, pairs ...string) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	t.Cleanup(cancel)
	return metadata.AppendToOutgoingContext(ctx, pairs...)
}

// A grpc-go client and server with the edge between them: what passes, what is
// tried again, what is refused, and what is counted.
func TestGRPC(t *testing.T) {
	t.Parallel()
	service, address := startGRPC(t)
	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	closed := nobody.Addr().String()
	require.NoError(t, nobody.Close())
	// on is a service of its own at an address, with one route for all calls.
	on := func(at, name, more string) string {
		return anotherService(name, endpointsAt(at)+", protocol: grpc", fmt.Sprintf(
			"pools: {one: {maxConcurrency: 1, maxQueue: 0}}, routes: [{name: %s, match: {path: {prefix: /grpc.testing.TestService}}%s}]", name, more))
	}
	const retry = ", timeout: {request: 5s, perTry: 1s}, retry: {attempts: 3, retryOn: [503, reset, connect-failure, timeout], backoff: {base: 10ms, max: 20ms}, idempotency: {}}"
	u := startUp(t, upConfig{workers: 2, policy: shop{endpoints: []string{address}, protocol: "grpc", routes: []route{{name: "fine"}}}.yaml() +
		on(address, "plain", "") + on(address, "short", ", timeout: {request: 300ms}") + on(address, "again", retry) +
		on(address, "tripping", ", breaker: "+breaker(3, "1h")) + on(address, "pooled", ", pool: one") + on(closed, "gone", ""),
	})
	clients := map[string]pb.TestServiceClient{}
	for _, host := range []string{"plain", "short", "again", "tripping", "pooled", "gone", "shop", "nowhere"} {
		clients[host] = dialGRPC(t, u.listen, host+".local")
	}
	hello := &pb.SimpleRequest{Payload: &pb.Payload{Body: []byte("hello")}}
	// fails calls, and looks at what the caller is told.
	fails := func(ctx context.Context, t *testing.T, host string, code codes.Code, message string) metadata.MD {
		t.Helper()
		var header, trailer metadata.MD
		_, err := clients[host].UnaryCall(ctx, hello, grpc.Header(&header), grpc.Trailer(&trailer))
		told := grpcstatus.Convert(err)
		require.Equal(t, code, told.Code(), told.Message())
		require.Equal(t, message, told.Message())
		all := metadata.Join(header, trailer)
		require.Len(t, all.Get("x-request-id"), 1)
		return all
	}
	want := tally{}

	t.Run("unary", func(t *testing.T) {
		got, err := clients["plain"].UnaryCall(asking(t), hello)
		require.NoError(t, err)
		require.Equal(t, "hello", string(got.GetPayload().GetBody()))
		want["plain ok"]++
	})
	t.Run("the service's own errors", func(t *testing.T) {
		outcomes := map[codes.Code]string{codes.Unknown: "5xx", codes.Internal: "5xx", codes.Unavailable: "5xx", codes.DataLoss: "5xx", codes.DeadlineExceeded: "timeout"}
		for code := codes.Canceled; code <= codes.Unauthenticated; code++ {
			fails(asking(t, mdCode, fmt.Sprint(uint32(code))), t, "plain", code, "as asked")
			outcome := outcomes[code]
			if outcome == "" {
				outcome = "4xx"
			}
			want["plain "+outcome]++
		}
	})
	t.Run("streams", func(t *testing.T) {
		for _, code := range []codes.Code{codes.OK, codes.Unavailable} {
			stream, err := clients["plain"].FullDuplexCall(asking(t, mdCode, fmt.Sprint(uint32(code))))
			require.NoError(t, err)
			for k := range 5 { // each message only once the one before has come back
				word := fmt.Sprint("word ", k)
				require.NoError(t, stream.Send(&pb.StreamingOutputCallRequest{Payload: &pb.Payload{Body: []byte(word)}}))
				got, err := stream.Recv()
				require.NoError(t, err)
				require.Equal(t, word, string(got.GetPayload().GetBody()))
			}
			require.NoError(t, stream.CloseSend())
			_, err = stream.Recv()
			if code == codes.OK {
				require.ErrorIs(t, err, io.EOF)
				want["plain ok"]++
				continue
			}
			require.Equal(t, code, grpcstatus.Code(err))
			want["plain 5xx"]++
		}
		up, err := clients["plain"].StreamingInputCall(asking(t))
		require.NoError(t, err)
		for range 100 {
			require.NoError(t, up.Send(&pb.StreamingInputCallRequest{Payload: &pb.Payload{Body: make([]byte, 10_000)}}))
		}
		total, err := up.CloseAndRecv()
		require.NoError(t, err)
		require.EqualValues(t, 1_000_000, total.GetAggregatedPayloadSize())
		down, err := clients["plain"].StreamingOutputCall(asking(t), &pb.StreamingOutputCallRequest{ResponseParameters: []*pb.ResponseParameters{{Size: 1}, {Size: 300_000}, {Size: 0}}})
		require.NoError(t, err)
		for _, size := range []int{1, 300_000, 0} {
			got, err := down.Recv()
			require.NoError(t, err)
			require.Len(t, got.GetPayload().GetBody(), size)
		}
		_, err = down.Recv()
		require.ErrorIs(t, err, io.EOF)
		want["plain ok"] += 2
	})
	t.Run("retries", func(t *testing.T) {
		for _, tc := range []struct {
			name  string
			more  []string
			code  codes.Code
			calls int64
		}{
			{"with a key", []string{"idempotency-key", "k-1", mdCode, "14", mdFails, "2"}, codes.OK, 3},
			{"with a key, all in vain", []string{"idempotency-key", "k-2", mdCode, "14"}, codes.Unavailable, 3},
			{"what is not to be tried again", []string{"idempotency-key", "k-3", mdCode, "3"}, codes.InvalidArgument, 1},
			{"without a key", []string{mdCode, "14"}, codes.Unavailable, 1},
		} {
			t.Run(tc.name, func(t *testing.T) {
				service.calls.Store(0)
				_, err := clients["again"].UnaryCall(asking(t, tc.more...), hello)
				require.Equal(t, tc.code, grpcstatus.Code(err), err)
				require.Equal(t, tc.calls, service.calls.Load())
			})
		}
		want["again ok"], want["again 5xx"], want["again 4xx"] = 1, 2, 1
	})
	t.Run("refusals", func(t *testing.T) {
		for range 3 {
			fails(asking(t, mdCode, "14"), t, "tripping", codes.Unavailable, "as asked")
		}
		md := fails(asking(t), t, "tripping", codes.Unavailable, "the circuit breaker of tripping/tripping is open")
		require.Equal(t, []string{"breaker-open"}, md.Get("x-seawall-decision"))
		require.Equal(t, []string{"3600"}, md.Get("retry-after"))
		want["tripping 5xx"], want["tripping breaker-open"] = 3, 1

		held := make(chan error, 1)
		go func() {
			_, err := clients["pooled"].UnaryCall(asking(t, mdWait, "1"), hello)
			held <- err
		}()
		eventually(t, soon, func() (bool, string) { return service.inside.Load() == 1, "the first does not come" })
		md = fails(asking(t), t, "pooled", codes.ResourceExhausted, "all permits of pool pooled/one are taken, and its queue is full")
		require.Equal(t, []string{"bulkhead-full"}, md.Get("x-seawall-decision"))
		require.Equal(t, []string{"1"}, md.Get("retry-after"))
		close(service.leave)
		require.NoError(t, <-held)
		want["pooled ok"], want["pooled bulkhead-full"] = 1, 1
	})
	t.Run("Envoy's own", func(t *testing.T) {
		fails(asking(t), t, "gone", codes.Unavailable, "No connection to the service")
		fails(asking(t), t, "nowhere", codes.Unimplemented, "No such route") // no service, no row
		fails(asking(t), t, "shop", codes.Unimplemented, "No such route")
		want["gone connect-failure"], want[" 4xx"] = 1, 1
	})
	u.awaitOutcomes(want)
	u.stop()
}

// A call's time is over at the same instant for the client, the edge and the
// service: the edge ends it some milliseconds before, so that it does not take
// the service that hangs up for one that fails, nor tells the client to try
// again. On a loaded machine some milliseconds are not always enough.
func TestGRPCTimeIsUpEverywhere(t *testing.T) {
	t.Parallel()
	service, address := startGRPC(t)
	defer close(service.leave)
	u := startUp(t, upConfig{workers: 2, policy: shop{endpoints: []string{address}, protocol: "grpc", routes: []route{
		{name: "short", path: "/grpc.testing.TestService/UnaryCall", timeout: "200ms"},
		{name: "patient", path: "/grpc.testing.TestService", breaker: breaker(1, "1h")},
	}}.yaml()})
	client := dialGRPC(t, u.listen, shopHost)
	const calls = 6
	late := 0
	for range calls {
		_, err := client.UnaryCall(asking(t, mdWait, "1"), &pb.SimpleRequest{})
		if grpcstatus.Code(err) != codes.DeadlineExceeded {
			t.Log(err)
			late++
		}
		ctx, cancel := context.WithTimeout(asking(t, mdWait, "1"), 200*time.Millisecond)
		stream, err := client.StreamingOutputCall(ctx, &pb.StreamingOutputCallRequest{})
		require.NoError(t, err)
		_, err = stream.Recv()
		require.Equal(t, codes.DeadlineExceeded, grpcstatus.Code(err), err)
		cancel()
	}
	for _, left := range service.deadlines() {
		require.LessOrEqual(t, left, 200*time.Millisecond)
		require.Greater(t, left, 100*time.Millisecond)
	}
	require.Len(t, service.deadlines(), 2*calls)
	require.LessOrEqual(t, late, calls/3)
	u.awaitCounted(2 * calls)
	got := u.outcomes()
	require.Equal(t, calls-late, got["short timeout"], "%v", got)
	require.Equal(t, calls, got["patient timeout"]+got["patient aborted"], "%v", got)
	require.Equal(t, "closed", u.breaker("patient").State, "a client's deadline is no failure of the service")
	u.stop()
}

// awaitCounted waits until so many requests have been counted.
func (u *up) awaitCounted(n int) {
	u.t.Helper()
	eventually(u.t, soon, func() (bool, string) {
		got := u.outcomes()
		return got.total() == n, fmt.Sprintf("traffic is %v, not %d requests", got, n)
	})
}

func (s *grpcService) deadlines() []time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.left)
}
