package telemetry

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"time"
)

// bodyTimeout bounds how long a filter may take to send one batch.
const bodyTimeout = 10 * time.Second

// Handler serves POST /v1/batches: 204 when the batch is durable (or was
// before), 503 with Retry-After when it should come again, and 400, 405, 413 or
// 415 when it can never be accepted.
func (i *Ingest) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/v1/batches", i.serve)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		refuse(w, http.StatusNotFound, "only /v1/batches is served here")
	})
	return mux
}

func (i *Ingest) serve(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		refuse(w, http.StatusMethodNotAllowed, "batches are posted")
		return
	}
	if media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || media != "application/json" {
		i.reject(w, http.StatusUnsupportedMediaType, "a batch is application/json")
		return
	}
	if r.ContentLength > maxBody {
		i.reject(w, http.StatusRequestEntityTooLarge, fmt.Sprintf("a batch has at most %d bytes", maxBody))
		return
	}
	// A body without a length may be as long as any.
	size := r.ContentLength
	if size < 0 {
		size = maxBody
	}
	defer i.inBytes.Add(-size)
	if i.inBytes.Add(size) > bodyBudget {
		i.later(w, "too many batches at once")
		return
	}
	// By the real clock, as sockets go. Not every ResponseWriter can; the
	// server's own limits hold then.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTimeout))
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var tooLong *http.MaxBytesError
	switch {
	case errors.As(err, &tooLong):
		i.reject(w, http.StatusRequestEntityTooLarge, fmt.Sprintf("a batch has at most %d bytes", maxBody))
		return
	case err != nil:
		// Cut off on its way: it says nothing about the batch.
		i.later(w, "the batch did not arrive whole")
		return
	}
	batch, err := Decode(body)
	if err == nil {
		err = i.guard.admit(&batch, i.now())
	}
	if err != nil {
		i.log.Warn("batch refused for good", "remote", r.RemoteAddr, "err", err)
		i.reject(w, http.StatusBadRequest, err.Error())
		return
	}
	done := make(chan error, 1)
	if !i.enqueue(pending{batch, done}) {
		i.later(w, "too many batches wait, or the control plane is stopping")
		return
	}
	if err := <-done; err != nil {
		i.later(w, "the telemetry store is not available")
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// enqueue hands a batch to the writer, unless too many wait or Close was
// called.
func (i *Ingest) enqueue(p pending) bool {
	i.gate.RLock()
	defer i.gate.RUnlock()
	if i.shut {
		return false
	}
	select {
	case i.queue <- p:
		return true
	default:
		return false
	}
}

func (i *Ingest) reject(w http.ResponseWriter, status int, detail string) {
	i.stats.rejected.Add(1)
	refuse(w, status, detail)
}

func (i *Ingest) later(w http.ResponseWriter, detail string) {
	i.stats.unavailable.Add(1)
	refuse(w, http.StatusServiceUnavailable, detail)
}
