// Package images holds the stock image handlers: stalk.images.thumbnail and stalk.images.variants reduce
// pictures that lie under a media root, which nothing they are told can leave. docs/images.md is their manual.
package images

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/stalkworker/stalk/handlers"
	"github.com/stalkworker/stalk/protocol"
)

// Config says where pictures lie and how large they may be.
type Config struct {
	Root      string // the media root, a folder that exists; required
	MaxPixels int64  // of a source, and of what is made; 0: 100,000,000
	MaxBytes  int64  // of a source file; 0: 128 MiB

	// Isolate runs the tasks in child processes of the worker (handlers.Options.Isolate): a picture that takes too long or
	// too much memory ends its child and no more.
	Isolate   bool
	HardLimit time.Duration // of an isolated task; 0: 5 min, negative: the worker's own
	MemoryCap int64         // of an isolated task; 0: 256 MiB, MaxBytes, and 32 bytes for each of MaxPixels: what the worst picture takes
}

// The limits of a Config that names none, and the most variants of one task.
const (
	DefaultMaxPixels = 100_000_000
	DefaultMaxBytes  = 128 << 20
	maxVariants      = 100

	isolatedHardLimit = 5 * time.Minute
	isolatedBase      = 256 << 20
	isolatedPerPixel  = 32
)

// Handlers returns the two tasks. The root must exist now; it is opened anew by each task.
func Handlers(cfg Config) ([]handlers.Handler, error) {
	var errs []error
	if cfg.Root == "" {
		errs = append(errs, errors.New("images: Config.Root is required"))
	} else if stat, err := os.Stat(cfg.Root); err != nil {
		errs = append(errs, fmt.Errorf("images: media root %q: %w", cfg.Root, err))
	} else if !stat.IsDir() {
		errs = append(errs, fmt.Errorf("images: media root %q is not a folder", cfg.Root))
	}
	if cfg.MemoryCap < 0 {
		errs = append(errs, fmt.Errorf("images: Config.MemoryCap is %d, want 0 or more", cfg.MemoryCap))
	}
	if cfg.MaxPixels < 0 {
		errs = append(errs, fmt.Errorf("images: Config.MaxPixels is %d, want 0 or more", cfg.MaxPixels))
	}
	if cfg.MaxBytes < 0 {
		errs = append(errs, fmt.Errorf("images: Config.MaxBytes is %d, want 0 or more", cfg.MaxBytes))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if cfg.MaxPixels == 0 {
		cfg.MaxPixels = DefaultMaxPixels
	}
	if cfg.MaxBytes == 0 {
		cfg.MaxBytes = DefaultMaxBytes
	}
	o := cfg.options()
	return []handlers.Handler{
		handlers.Func("stalk.images.thumbnail", cfg.thumbnail).With(o),
		handlers.Func("stalk.images.variants", cfg.variants).With(o),
	}, nil
}

func (cfg Config) options() handlers.Options {
	if !cfg.Isolate {
		return handlers.Options{}
	}
	return handlers.Options{
		Isolate:   true,
		HardLimit: max(cmp.Or(cfg.HardLimit, isolatedHardLimit), 0),
		MemoryCap: cmp.Or(cfg.MemoryCap, isolatedBase+cfg.MaxBytes+isolatedPerPixel*cfg.MaxPixels),
	}
}

// thumbnailArgs are the parameters of stalk.images.thumbnail in Python's order.
type thumbnailArgs struct {
	Source      string           `json:"source"`
	Target      *string          `json:"target,omitzero"`
	Size        []protocol.Value `json:"size" default:"[256, 256]"`
	Fit         string           `json:"fit" default:"inside"`
	Format      *string          `json:"format,omitzero"`
	Quality     int64            `json:"quality" default:"85"`
	Focal       []protocol.Value `json:"focal,omitzero"`
	Crop        []protocol.Value `json:"crop,omitzero"`
	Sharpen     []protocol.Value `json:"sharpen,omitzero"`
	MaxBytes    *int64           `json:"max_bytes,omitzero"`
	Progressive bool             `json:"progressive" default:"false"`
	Subsampling string           `json:"subsampling" default:"4:2:0"`
	Metadata    string           `json:"metadata" default:"drop"`
	ICC         string           `json:"icc" default:"keep"`
	Frames      string           `json:"frames" default:"first"`
}

func (a thumbnailArgs) request() request {
	return request{
		target: a.Target, size: a.Size, fit: a.Fit, format: a.Format, quality: a.Quality, focal: a.Focal, crop: a.Crop, sharpen: a.Sharpen,
		maxBytes: a.MaxBytes, progressive: a.Progressive, subsampling: a.Subsampling, metadata: a.Metadata, icc: a.ICC,
		frames: cmp.Or(a.Frames, framesFirst),
	}
}

// variantsArgs are the parameters of stalk.images.variants.
type variantsArgs struct {
	Source   string           `json:"source"`
	Variants []protocol.Value `json:"variants"`
}

// Made is one picture that was written: what both tasks return.
type Made struct {
	Name    string `json:"name"` // storage name
	Width   int    `json:"width"`
	Height  int    `json:"height"`
	Bytes   int64  `json:"bytes"`
	Format  string `json:"format"`           // "jpeg", "png" or "gif"
	Quality int    `json:"quality,omitzero"` // that max_bytes came to; 0: it was not asked for
	Frames  int    `json:"frames,omitzero"`  // of an animation
}

func (cfg Config) thumbnail(ctx context.Context, a thumbnailArgs) (Made, error) {
	source, err := clean(a.Source)
	if err != nil {
		return Made{}, err
	}
	v, err := variantOf("", a.request())
	if err != nil {
		return Made{}, err
	}
	j := job{cfg: cfg, source: source, variants: []variant{v}}
	j.progress = func(stage string, _ int) error { return progress(ctx, map[string]any{"stage": stage}) }
	made, err := j.run(ctx)
	if err != nil {
		return Made{}, err
	}
	return made[0], nil
}

func (cfg Config) variants(ctx context.Context, a variantsArgs) ([]Made, error) {
	source, err := clean(a.Source)
	if err != nil {
		return nil, err
	}
	if len(a.Variants) == 0 || len(a.Variants) > maxVariants {
		return nil, valueError("variants must be a list of 1 to %d, got %d", maxVariants, len(a.Variants))
	}
	j := job{cfg: cfg, source: source}
	for i, value := range a.Variants {
		v, err := variantOfObject(i, value)
		if err != nil {
			return nil, err
		}
		j.variants = append(j.variants, v)
	}
	j.progress = func(stage string, done int) error {
		if stage == stageDecode {
			return nil
		}
		return progress(ctx, map[string]any{"done": done, "total": len(a.Variants)})
	}
	return j.run(ctx)
}

// progress reports if somebody listens. That nobody does, or that the report is lost, is no reason to make
// no thumbnail; that the task must stop is.
func progress(ctx context.Context, meta any) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if _, inWorker := handlers.InfoFrom(ctx); inWorker {
		_ = handlers.Progress(ctx, meta)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}
