package jpegscale

import (
	"bytes"
	"fmt"
	"image/jpeg"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stalkworker/stalk/handlers/images/sampleimage"
)

var photo12 = sync.OnceValue(func() []byte {
	var b bytes.Buffer
	if err := jpeg.Encode(&b, sampleimage.New(4000, 3000, 1), &jpeg.Options{Quality: 90}); err != nil {
		panic(err)
	}
	return b.Bytes()
})

// cpu is the processor time this process has used: on a busy machine the clock says little.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func BenchmarkDecode12MP(b *testing.B) {
	data := photo12()
	if name := os.Getenv("JPEGSCALE_FILE"); name != "" {
		data, _ = os.ReadFile(name)
	}
	for _, n := range []Scale{Eighth, Quarter, Half, Full} {
		b.Run(fmt.Sprintf("scale%d", n), func(b *testing.B) {
			b.ReportAllocs()
			start := cpu(b)
			for b.Loop() {
				if _, err := Decode(data, Options{Scale: n}); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(cpu(b)-start)/float64(b.N)/1e6, "cpu-ms/op")
		})
	}
}
