package host

import (
	"slices"
	"sync"
)

// sharedStore is Envoy's process-wide shared data and its queues, by vm_id
// (proxy-wasm-cpp-host shared_data.cc, shared_queue.cc).
type sharedStore struct {
	mu     sync.Mutex
	cas    uint32 // one sequence over all keys of all VMs
	data   map[string]map[string]sharedValue
	queues []*queue // token = index + 1
}

type sharedValue struct {
	value []byte
	cas   uint32
}

type queue struct {
	vmID, name string
	items      [][]byte
	reader     queueReader // the last one to register, and nobody else
}

// queueReader is whom a queue wakes: a context looked up by its number in
// whatever VM that thread has by then. So a canary's registration wakes the
// main thread's VM, and one of a VM that died wakes its successor.
type queueReader struct {
	thread  *thread // nil: nobody, there is no main thread
	key     vmKey
	context uint32
}

func newSharedStore() *sharedStore {
	return &sharedStore{data: map[string]map[string]sharedValue{}}
}

func (s *sharedStore) get(vmID, key string) (sharedValue, status) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, ok := s.data[vmID][key]
	if !ok {
		return sharedValue{}, statusNotFound
	}
	return v, statusOK
}

// set writes a value. A cas of 0 overwrites. On a missing key Envoy does not
// look at cas at all, so any value but 0 creates only if absent, as long as it
// is not the cas that the key will get.
func (s *sharedStore) set(vmID, key string, value []byte, cas uint32) status {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.data[vmID]
	if m == nil {
		m = map[string]sharedValue{}
		s.data[vmID] = m
	}
	if old, ok := m[key]; ok && cas != 0 && cas != old.cas {
		return statusCasMismatch
	}
	s.cas++
	if s.cas == 0 { // nextCas() never gives 0, which would mean "overwrite"
		s.cas = 1
	}
	m[key] = sharedValue{value: slices.Clone(value), cas: s.cas}
	return statusOK
}

// drop forgets a vm_id whose last VM is gone.
func (s *sharedStore) drop(vmID string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.data, vmID)
	for i, q := range s.queues {
		if q != nil && q.vmID == vmID {
			s.queues[i] = nil
		}
	}
}

func (s *sharedStore) keys(vmID string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	keys := make([]string, 0, len(s.data[vmID]))
	for k := range s.data[vmID] {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func (s *sharedStore) register(vmID, name string, reader queueReader) uint32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, q := range s.queues {
		if q != nil && q.vmID == vmID && q.name == name {
			q.reader = reader // what is queued stays
			return uint32(i + 1)
		}
	}
	s.queues = append(s.queues, &queue{vmID: vmID, name: name, reader: reader})
	return uint32(len(s.queues))
}

func (s *sharedStore) resolve(vmID, name string) (uint32, status) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, q := range s.queues {
		if q != nil && q.vmID == vmID && q.name == name {
			return uint32(i + 1), statusOK
		}
	}
	return 0, statusNotFound
}

func (s *sharedStore) queue(token uint32) *queue {
	if token == 0 || int(token) > len(s.queues) {
		return nil
	}
	return s.queues[token-1]
}

// enqueue appends an item and returns whom to wake.
func (s *sharedStore) enqueue(token uint32, item []byte) (queueReader, status) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := s.queue(token)
	if q == nil {
		return queueReader{}, statusNotFound
	}
	q.items = append(q.items, slices.Clone(item)) // Envoy has no limit either
	return q.reader, statusOK
}

func (s *sharedStore) dequeue(token uint32) ([]byte, status) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := s.queue(token)
	if q == nil {
		return nil, statusNotFound
	}
	if len(q.items) == 0 {
		return nil, statusEmpty
	}
	item := q.items[0]
	q.items = q.items[1:]
	return item, statusOK
}
