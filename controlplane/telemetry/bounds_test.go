package telemetry_test

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seawall-mesh/seawall/controlplane/store/sqlite"
	"github.com/seawall-mesh/seawall/controlplane/telemetry"
)

// TestBytesOnTheirWayAreBounded: eight bodies of the largest size fill the
// budget; the next batch is told to come again, and finds room later.
func TestBytesOnTheirWayAreBounded(t *testing.T) {
	e := setup(t)
	var wg sync.WaitGroup
	var bodies []*io.PipeWriter
	for range 8 {
		r, w := io.Pipe()
		bodies = append(bodies, w)
		wg.Go(func() {
			req := httptest.NewRequest(http.MethodPost, "/v1/batches", r)
			req.ContentLength = 8 << 20
			req.Header.Set("Content-Type", "application/json")
			rec := httptest.NewRecorder()
			e.ingest.Handler().ServeHTTP(rec, req)
			require.Equal(t, http.StatusServiceUnavailable, rec.Code)
		})
		_, err := w.Write([]byte("{")) // returns once the handler reads
		require.NoError(t, err)
	}
	small := encode(t, batch('a', 1, row(e.minute(), ok(1))))
	require.Equal(t, http.StatusServiceUnavailable, e.post(small).Code)
	for _, w := range bodies {
		require.NoError(t, w.CloseWithError(io.ErrUnexpectedEOF))
	}
	wg.Wait()
	require.Equal(t, http.StatusNoContent, e.post(small).Code)
}

// TestOldMinutesArePruned runs three months of virtual time.
func TestOldMinutesArePruned(t *testing.T) {
	path := filepath.Join(t.TempDir(), "seawall.db")
	synctest.Test(t, func(t *testing.T) {
		store, err := sqlite.Open(t.Context(), path)
		require.NoError(t, err)
		const retention = 90 * 24 * time.Hour
		ingest := telemetry.New(telemetry.Config{Log: slog.New(slog.DiscardHandler), Store: store, Now: time.Now,
			Retention: telemetry.Retention{Minutes: 24 * time.Hour, Tens: 7 * 24 * time.Hour, Hours: 30 * 24 * time.Hour, Days: retention}})
		defer func() {
			ingest.Close()
			require.NoError(t, store.Close())
		}()
		e := &env{t: t, store: store, ingest: ingest}
		minute := time.Now().Unix() / 60
		b := batch('a', 1, row(minute, ok(1)))
		b.AtNS = time.Now().UnixNano() // virtual time starts in 2000
		e.send(b)
		total := func() (n uint64) {
			rows, err := ingest.Traffic(t.Context(), 200*24*time.Hour)
			require.NoError(t, err)
			for _, r := range rows {
				n += r.Total
			}
			return n
		}
		<-time.After(7*24*time.Hour - time.Minute)
		synctest.Wait()
		e.send(b)
		require.EqualValues(t, 1, total(), "a VM that spoke within a week is remembered")
		<-time.After(retention - 8*24*time.Hour)
		require.EqualValues(t, 1, total())
		<-time.After(3 * 24 * time.Hour) // a summed-up day goes as a whole
		synctest.Wait()
		require.Zero(t, total())
	})
}
