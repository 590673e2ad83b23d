package telemetry_test

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seawall-mesh/seawall/controlplane/store/sqlite"
	"github.com/seawall-mesh/seawall/filter/contract"
)

// child is this test binary, serving batches in a process of its own.
type child struct {
	cmd    *exec.Cmd
	url    string
	stderr bytes.Buffer
}

func spawn(t *testing.T, path string) *child {
	t.Helper()
	c := &child{cmd: exec.Command(os.Args[0])} //nolint:gosec // itself
	c.cmd.Env = append(os.Environ(), helperPath+"="+path)
	c.cmd.Stderr = &c.stderr
	out, err := c.cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, c.cmd.Start())
	t.Cleanup(c.kill)
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		c.kill()
	}
	require.NoError(t, err, "%s", &c.stderr)
	c.url = "http://" + strings.TrimSpace(line)
	return c
}

// kill is kill -9.
func (c *child) kill() {
	if c.cmd.ProcessState == nil {
		_ = c.cmd.Process.Kill()
		_ = c.cmd.Wait()
	}
}

// TestKilledWhileApplying kills the process again and again at random moments
// while several VMs send, each repeating a batch until it is acknowledged, as
// filters do. In the end each batch must have been counted exactly once.
func TestKilledWhileApplying(t *testing.T) {
	path := filepath.Join(t.TempDir(), "seawall.db")
	const kills, vms = 12, 6
	minute := time.Now().Unix() / 60
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{}}
	defer client.CloseIdleConnections()

	var url atomic.Value
	url.Store("")
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var acked [vms]uint64
	var acks atomic.Int64
	for vm := range vms {
		wg.Go(func() {
			for seq := uint64(1); ; {
				b := batch("abcdef"[vm], seq, row(minute, ok(seq)))
				to, _ := url.Load().(string)
				if send(ctx, client, to, encode(t, b)) {
					acked[vm] = seq
					acks.Add(1)
					seq++
				} else if ctx.Err() != nil {
					// The last one may or may not have been stored.
					return
				}
			}
		})
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range kills {
		c := spawn(t, path)
		before := acks.Load()
		url.Store(c.url)
		// At least some batches pass in each life, then it ends anywhere within
		// the next 64.
		target := before + 20 + random.Int64N(64)
		require.Eventually(t, func() bool { return acks.Load() >= target }, 20*time.Second, time.Millisecond, "%s", &c.stderr)
		c.kill()
	}
	stop()
	wg.Wait()

	// All that was acknowledged is there, and sending it all again, with the one
	// in doubt, makes each VM's sum exact.
	store, err := sqlite.Open(t.Context(), path)
	require.NoError(t, err)
	var want uint64
	for vm := range vms {
		for seq := uint64(1); seq <= acked[vm]+1; seq++ {
			b := batch("abcdef"[vm], seq, row(minute, ok(seq)))
			want += seq
			done, err := store.Apply(t.Context(), time.Now(), []contract.Batch{b})
			require.NoError(t, err)
			if seq <= acked[vm] {
				require.True(t, done[0].Duplicate, "acknowledged batch %d of VM %d was lost", seq, vm)
			}
		}
	}
	sums, err := store.Sums(t.Context(), []int64{minute, minute + 1}, false)
	require.NoError(t, err)
	require.Len(t, sums[0].Cells, 1)
	require.Equal(t, want, sums[0].Cells[0].N)
	require.NoError(t, store.Close())
	t.Logf("%d batches acknowledged over %d kills", acks.Load(), kills)
}

func send(ctx context.Context, client *http.Client, url string, body []byte) bool {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/v1/batches", bytes.NewReader(body))
	if err != nil {
		return false
	}
	r.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(r)
	if err != nil {
		return false
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	return resp.StatusCode == http.StatusNoContent
}

// TestAFullDiskIsSurvived lets the files not grow any more, as a full disk
// does, and then lets them grow again.
func TestAFullDiskIsSurvived(t *testing.T) {
	path := filepath.Join(t.TempDir(), "seawall.db")
	c := spawn(t, path)
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	minute := time.Now().Unix() / 60
	status := func(url string, body []byte) int {
		resp, err := client.Post(url, "application/json", bytes.NewReader(body))
		require.NoError(t, err)
		_, _ = io.Copy(io.Discard, resp.Body)
		require.NoError(t, resp.Body.Close())
		return resp.StatusCode
	}
	post := func(seq uint64) int {
		return status(c.url+"/v1/batches", encode(t, batch('a', seq, row(minute, ok(1)))))
	}
	require.Equal(t, 204, post(1))

	require.Equal(t, 200, status(c.url+limitPath+"4096", nil))
	require.Equal(t, 503, post(2))
	require.Equal(t, 503, post(2))
	require.Equal(t, 503, post(1), "whether it was seen cannot be noted either")

	require.Equal(t, 200, status(c.url+limitPath+"1000000000", nil))
	require.Equal(t, 204, post(2))
	require.Equal(t, 204, post(2))
	require.Equal(t, 204, post(3))
	c.kill()
	log := c.stderr.String()
	require.Equal(t, 1, strings.Count(log, "telemetry is not being stored"), log)
	require.Equal(t, 1, strings.Count(log, "telemetry is being stored again"), log)

	store, err := sqlite.Open(t.Context(), path)
	require.NoError(t, err)
	sums, err := store.Sums(t.Context(), []int64{minute, minute + 1}, false)
	require.NoError(t, err)
	require.EqualValues(t, 3, sums[0].Cells[0].N)
	require.NoError(t, store.Close())
}
