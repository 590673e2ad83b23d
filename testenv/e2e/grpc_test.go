//go:build linux

package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
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

	const unary, duplex = "/grpc.testing.TestService/UnaryCall", "/grpc.testing.TestService"
	// host is a service of its own over the same server, one route for all calls.
	host := func(name, policy string) string {
		at := address
		if name == "gone" {
			at = closed
		}
		return anotherService(name, endpointsAt(at)+", protocol: grpc", fmt.Sprintf("pools: {one: {maxConcurrency: 1, maxQueue: 0}}, routes: [{name: %s, match: {path: {prefix: %s}}%s}]", name, duplex, policy))
	}
	u := startUp(t, upConfig{workers: 2, policy: shop{endpoints: []string{address}, routes: []route{{name: "fine"}}}.yaml() +
		host("plain", "") +
		host("short", ", timeout: {request: 300ms}") +
		host("again", ", retry: {attempts: 3, retryOn: [503, reset, connect-failure, timeout], backoff: {base: 10ms, max: 20ms}}, timeout: {request: 5s, perTry: 1s}") +
		host("tripping", ", breaker: "+breaker(3, "1h")) +
		host("pooled", ", pool: one") +
		host("gone", ""),
	})
	_ = unary
	_ = service

	call := func(t *testing.T, host string, ctx context.Context) error {
		t.Helper()
		var header, trailer metadata.MD
		_, err := dialGRPC(t, u.listen, host+".local").UnaryCall(ctx, &pb.SimpleRequest{Payload: &pb.Payload{Body: []byte("hello")}}, grpc.Header(&header), grpc.Trailer(&trailer))
		t.Log(err, header, trailer)
		return err
	}
	for _, host := range []string{"plain", "short", "again", "tripping", "pooled", "gone", "nowhere"} {
		call(t, host, asking(t))
	}
	for code := 1; code < 17; code++ {
		call(t, "plain", asking(t, mdCode, fmt.Sprint(code)))
	}
	call(t, "short", asking(t, mdWait, "1"))
	service.calls.Store(0)
	call(t, "again", asking(t, mdCode, "14"))
	t.Log(service.calls.Load())
	for range 5 {
		call(t, "tripping", asking(t, mdCode, "14"))
	}
	ctx, cancel := context.WithTimeout(asking(t, mdWait, "1"), 300*time.Millisecond)
	defer cancel()
	call(t, "plain", ctx)
	t.Log(service.left)
	t.Log(u.outcomes())
	u.awaitBatches()
	t.Log(u.outcomes())
	u.stop()
}
