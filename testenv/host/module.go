package host

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"
)

// abiExport is what a module exports to say which ABI it speaks.
const abiExport = "proxy_abi_version_0_2_1"

// defaultMaxMemoryMiB is what proxy-wasm-cpp-host allows a VM (limits.h).
const defaultMaxMemoryMiB = 1024

// ErrNotProxyWasm says that the bytes are a module, but not one that Envoy
// would load.
var ErrNotProxyWasm = errors.New("not a proxy-wasm 0.2.1 module")

// CompileConfig is how a module is compiled. The zero value is what Envoy does.
type CompileConfig struct {
	// MaxMemoryMiB bounds the memory of each VM, in MiB; 0 means 1024 as in
	// Envoy. A small value makes a module run out of memory.
	MaxMemoryMiB int
	// CacheDir keeps compiled code between processes; "" keeps none.
	CacheDir string
}

// Module is a compiled module. Any number of hosts may share one: compiling
// takes seconds, a VM from it some milliseconds.
type Module struct {
	runtime wazero.Runtime
	cache   wazero.CompilationCache
	code    wazero.CompiledModule
	sha256  string
}

// Compile compiles a module, and refuses what Envoy would refuse to load. The
// error of a module without the ABI or the allocator is ErrNotProxyWasm.
func Compile(ctx context.Context, wasm []byte, cfg CompileConfig) (*Module, error) {
	if cfg.MaxMemoryMiB <= 0 || cfg.MaxMemoryMiB > 4096 {
		cfg.MaxMemoryMiB = defaultMaxMemoryMiB
	}
	rc := wazero.NewRuntimeConfig().WithMemoryLimitPages(uint32(cfg.MaxMemoryMiB) * 16)
	m := &Module{}
	if cfg.CacheDir != "" {
		cache, err := wazero.NewCompilationCacheWithDir(cfg.CacheDir)
		if err != nil {
			return nil, fmt.Errorf("compilation cache %s: %w", cfg.CacheDir, err)
		}
		m.cache = cache
		rc = rc.WithCompilationCache(cache)
	}
	m.runtime = wazero.NewRuntimeWithConfig(ctx, rc)
	sum := sha256.Sum256(wasm)
	m.sha256 = hex.EncodeToString(sum[:])
	if err := m.load(ctx, wasm); err != nil {
		return nil, errors.Join(err, m.Close(ctx))
	}
	return m, nil
}

func (m *Module) load(ctx context.Context, wasm []byte) error {
	code, err := m.runtime.CompileModule(ctx, wasm)
	if err != nil {
		return fmt.Errorf("module %s: %w", m.sha256[:12], err)
	}
	m.code = code
	exports := code.ExportedFunctions()
	if exports[abiExport] == nil {
		return fmt.Errorf("%w: it does not export %s", ErrNotProxyWasm, abiExport)
	}
	if exports["malloc"] == nil && exports["proxy_on_memory_allocate"] == nil {
		return fmt.Errorf("%w: it exports neither malloc nor proxy_on_memory_allocate", ErrNotProxyWasm)
	}
	if err := instantiateEnv(ctx, m.runtime); err != nil {
		return fmt.Errorf("host module env: %w", err)
	}
	wasi := m.runtime.NewHostModuleBuilder(wasi_snapshot_preview1.ModuleName)
	wasi_snapshot_preview1.NewFunctionExporter().ExportFunctions(wasi)
	// Envoy polls nothing and says so at once; wazero's own would sleep.
	wasi.NewFunctionBuilder().
		WithGoModuleFunction(api.GoModuleFunc(pollOneoff),
			[]api.ValueType{api.ValueTypeI32, api.ValueTypeI32, api.ValueTypeI32, api.ValueTypeI32},
			[]api.ValueType{api.ValueTypeI32}).
		Export("poll_oneoff")
	if _, err := wasi.Instantiate(ctx); err != nil {
		return fmt.Errorf("host module wasi: %w", err)
	}
	return nil
}

// SHA256 is the hex sha256 of the module's bytes.
func (m *Module) SHA256() string { return m.sha256 }

// Close frees the code. Hosts that use the module must be closed before.
func (m *Module) Close(ctx context.Context) error {
	err := m.runtime.Close(ctx)
	if m.cache != nil {
		err = errors.Join(err, m.cache.Close(ctx))
	}
	return err
}

// pollOneoff is what proxy-wasm-cpp-host does (exports.cc, issue 497): no
// event, success; the Go runtime counts on it.
func pollOneoff(_ context.Context, mod api.Module, stack []uint64) {
	if !mod.Memory().WriteUint32Le(uint32(stack[3]), 0) {
		stack[0] = 21 // EFAULT
		return
	}
	stack[0] = 0
}
