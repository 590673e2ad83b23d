package server

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"time"
	"unicode"
	"unicode/utf8"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// maxNames bounds what one stream may subscribe to of one type.
const maxNames = 20_000

// stream is one delta ADS stream. Its members are guarded by the node's lock,
// but for the channels.
type stream struct {
	openedAt time.Time
	resumed  bool // its first request told of resources that it has
	nonce    uint64
	subs     [kindCount]subscription
	odd      map[string]bool // unknown types, warned of once

	wake     chan struct{} // something may have to be sent
	replaced chan struct{} // closed when a newer stream of the same node takes over
}

func newStream(now time.Time, resumed bool) *stream {
	return &stream{
		openedAt: now, resumed: resumed, odd: map[string]bool{},
		wake: make(chan struct{}, 1), replaced: make(chan struct{}),
	}
}

func (st *stream) poke() {
	select {
	case st.wake <- struct{}{}:
	default:
	}
}

// DeltaAggregatedResources serves one Envoy.
func (s *Server) DeltaAggregatedResources(g discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	if s.streams.Add(1) > int64(s.cfg.MaxNodes)+64 {
		s.streams.Add(-1)
		return status.Errorf(codes.ResourceExhausted, "more than %d streams", s.cfg.MaxNodes)
	}
	defer s.streams.Add(-1)
	ctx := g.Context()
	reqs, failed := make(chan *discoveryv3.DeltaDiscoveryRequest), make(chan error, 1)
	go func() {
		for {
			req, err := g.Recv()
			if err != nil {
				failed <- err
				return
			}
			select {
			case reqs <- req:
			case <-ctx.Done():
				return
			}
		}
	}()

	var n *node
	var st *stream
	// Until the first request there is no stream to be woken or replaced.
	var wake, replaced chan struct{}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.stopping:
			return status.Error(codes.Unavailable, "control plane is shutting down")
		case <-replaced:
			return status.Error(codes.Aborted, "a newer stream of the same node.id took over")
		case err := <-failed:
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		case req := <-reqs:
			if n == nil {
				var err error
				if n, st, err = s.attach(req); err != nil {
					return err
				}
				defer s.detach(n, st)
				wake, replaced = st.wake, st.replaced
			}
			if err := s.handle(n, st, req); err != nil {
				return err
			}
		case <-wake:
		}
		for _, resp := range s.collect(n, st) {
			if err := g.Send(resp); err != nil {
				return err
			}
		}
	}
}

// StreamAggregatedResources refuses the state-of-the-world variant: it sends
// a rejected resource again and then takes Envoy's answer for an ACK (FACTS).
func (s *Server) StreamAggregatedResources(discoveryv3.AggregatedDiscoveryService_StreamAggregatedResourcesServer) error {
	s.cfg.Log.Warn("refused a state-of-the-world xDS stream", "hint", "set ads_config.api_type to DELTA_GRPC")
	return status.Error(codes.Unimplemented, "seawall serves the delta variant of ADS only: set ads_config.api_type to DELTA_GRPC")
}

// attach finds the node of a stream's first request and gives it the stream.
func (s *Server) attach(req *discoveryv3.DeltaDiscoveryRequest) (*node, *stream, error) {
	if err := checkNode(req.GetNode()); err != nil {
		return nil, nil, err
	}
	n, err := s.lockNode(req.GetNode().GetId())
	if err != nil {
		return nil, nil, err
	}
	defer s.unlock(n)
	now := s.cfg.Now()
	st := newStream(now, len(req.GetInitialResourceVersions()) > 0)
	if old := n.stream; old != nil {
		close(old.replaced)
		n.tell(now, slog.LevelWarn, EventReplaced, fmt.Sprintf(
			"a second stream took over from one of %s: it reconnected, or two Envoys share node.id %q", now.Sub(old.openedAt).Round(time.Millisecond), n.id))
	}
	n.cluster, n.meta = clip(req.GetNode().GetCluster(), 256), readMetadata(req.GetNode())
	n.attach(now, st, st.resumed)
	n.tell(now, slog.LevelInfo, EventConnected, fmt.Sprintf("cluster %q, %d workers, resumed=%t", n.cluster, n.meta.workers, st.resumed))
	n.retarget(now, s.model.Load())
	n.advance(now)
	return n, st, nil
}

// lockNode finds or makes a node's state, and locks it.
func (s *Server) lockNode(id string) (*node, error) {
	for {
		n, err := s.node(id)
		if err != nil {
			return nil, err
		}
		n.mu.Lock()
		if !n.gone {
			return n, nil
		}
		n.mu.Unlock() // forgotten in between
	}
}

func checkNode(n *corev3.Node) error {
	id := n.GetId()
	if id == "" {
		return status.Error(codes.InvalidArgument, "the first request of a stream must carry node.id")
	}
	if len(id) > 256 || !utf8.ValidString(id) {
		return status.Error(codes.InvalidArgument, "node.id must be UTF-8 of at most 256 bytes")
	}
	for _, c := range id {
		if !unicode.IsPrint(c) {
			return status.Error(codes.InvalidArgument, "node.id must be printable")
		}
	}
	return nil
}

func (s *Server) detach(n *node, st *stream) {
	n.mu.Lock()
	defer s.unlock(n)
	if n.stream != st {
		return
	}
	now := s.cfg.Now()
	n.state(now) // so that what it had goes on being shown
	n.stream, n.seen = nil, now
	n.tell(now, slog.LevelInfo, EventDisconnected, "it goes on with what it has")
}

// handle takes in one request: an answer to a response, a subscription, or both.
func (s *Server) handle(n *node, st *stream, req *discoveryv3.DeltaDiscoveryRequest) error {
	k, known := kindOf(req.GetTypeUrl())
	now := s.cfg.Now()
	n.mu.Lock()
	defer s.unlock(n)
	if n.stream != st {
		return nil // about to end
	}
	if !known {
		if url := clip(req.GetTypeUrl(), 256); !st.odd[url] && len(st.odd) < 32 {
			st.odd[url] = true
			s.cfg.Log.Warn("xDS type is not served", "node", n.id, "type", url)
		}
		return nil
	}
	n.seen = now
	sub := &st.subs[k]
	if len(sub.names)+len(req.GetResourceNamesSubscribe()) > maxNames || len(req.GetInitialResourceVersions()) > maxNames {
		return status.Errorf(codes.ResourceExhausted, "%s: more than %d names", k, maxNames)
	}
	first := !sub.asked
	if p := sub.pending; p != nil && req.GetResponseNonce() == p.nonce {
		if e := req.GetErrorDetail(); e != nil {
			s.stats[k].nacks.Add(1)
			n.onNack(now, k, e.GetMessage())
		} else {
			s.stats[k].acks.Add(1)
			n.onAck(now, k)
		}
	}
	sub.request(k, req)
	if first && len(req.GetInitialResourceVersions()) > 0 && !st.resumed {
		n.resume(now)
	}
	if k == ecds && first && st.resumed {
		n.heal.ackedAt = now // of what it has, acknowledged or not this side of our start
		if n.adopt(req.GetInitialResourceVersions()) {
			n.retarget(now, s.model.Load())
		}
	}
	n.advance(now)
	return nil
}

// collect makes the responses that are due, and marks them as sent.
func (s *Server) collect(n *node, st *stream) []*discoveryv3.DeltaDiscoveryResponse {
	if n == nil {
		return nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.stream != st || n.want == nil {
		return nil
	}
	var out []*discoveryv3.DeltaDiscoveryResponse
	for k := range kindCount {
		sub := &st.subs[k]
		resp := sub.next(k, n.views[k], n.reject[k].blocks)
		if resp == nil {
			continue
		}
		st.nonce++
		resp.Nonce = strconv.FormatUint(st.nonce, 10)
		sub.pending.nonce = resp.GetNonce()
		if k == cds {
			st.subs[eds].again(sub.replaces())
		}
		s.stats[k].pushes.Add(1)
		out = append(out, resp)
	}
	return out
}
