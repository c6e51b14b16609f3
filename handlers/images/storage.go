package images

import (
	"bufio"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
)

// A storage is the folder under which storage names lie. It is opened for each task, so that a media root
// that was mounted or replaced while the worker runs is found.
type storage struct{ root *os.Root }

func openStorage(root string) (storage, error) {
	r, err := os.OpenRoot(root)
	if err != nil {
		return storage{}, osError(root, err)
	}
	return storage{r}, nil
}

func (s storage) Close() { s.root.Close() }

// address is the beginning of a URL. A folder could have such a name, and never has.
var address = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9+.-]*://`)

// clean checks a storage name by its letters alone and returns its one spelling. What symbolic links do is
// the business of os.Root.
func clean(name string) (string, error) {
	switch {
	case name == "":
		return "", suspicious(name, "the name is empty")
	case strings.ContainsRune(name, 0):
		return "", suspicious(strings.ReplaceAll(name, "\x00", "\\x00"), "the name holds a NUL")
	case strings.HasPrefix(name, "/"):
		return "", suspicious(name, "the name is absolute")
	case address.MatchString(name):
		return "", valueError("%.200q is an address, not the name of a file below the media root: nothing is fetched", name)
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == ".." {
			return "", suspicious(name, "the name has a part '..'")
		}
	}
	c := path.Clean(name)
	if c == "." || strings.HasSuffix(name, "/") {
		return "", suspicious(name, "the name is that of a folder")
	}
	if !filepath.IsLocal(filepath.FromSlash(c)) {
		return "", suspicious(name, "the name is not local")
	}
	return c, nil
}

// read returns the content of a regular file of at most limit bytes.
func (s storage) read(name string, limit int64) ([]byte, os.FileInfo, error) {
	// Without O_NONBLOCK, opening a named pipe waits for its writer, perhaps for ever.
	f, err := s.root.OpenFile(filepath.FromSlash(name), os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, osError(name, err)
	}
	defer f.Close()
	stat, err := f.Stat()
	switch {
	case err != nil:
		return nil, nil, osError(name, err)
	case stat.IsDir():
		return nil, nil, osError(name, syscall.EISDIR)
	case !stat.Mode().IsRegular():
		return nil, nil, valueError("%q is not a regular file", name)
	case stat.Size() > limit:
		return nil, nil, valueError("%q is %d bytes long, the limit is %d", name, stat.Size(), limit)
	}
	data := make([]byte, stat.Size())
	n, err := io.ReadFull(f, data) // a file that shrinks meanwhile is a truncated picture, one that grows is cut
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, nil, osError(name, err)
	}
	return data[:n], stat, nil
}

// write makes the file name of what fill writes: into a temporary file beside it, renamed over it when
// complete. Readers see the old file or the new one; of two writers one wins; on an error nothing is left.
// There is no fsync: after a power failure a thumbnail may be missing or empty, and is made again from its source.
func (s storage) write(name string, fill func(io.Writer) error) (written int64, err error) {
	dir := path.Dir(name)
	if dir != "." {
		if err := s.root.MkdirAll(filepath.FromSlash(dir), 0o755); err != nil {
			return 0, osError(dir, err)
		}
	}
	var random [8]byte
	rand.Read(random[:])
	temp := filepath.FromSlash(path.Join(dir, ".stalk-"+hex.EncodeToString(random[:])+".tmp"))
	f, err := s.root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return 0, osError(name, err)
	}
	defer func() {
		if err != nil {
			f.Close()
			s.root.Remove(temp)
		}
	}()
	b := bufio.NewWriterSize(f, 64<<10)
	if err := fill(b); err != nil {
		return 0, errOf(name, err)
	}
	if err := b.Flush(); err != nil {
		return 0, osError(name, err)
	}
	stat, err := f.Stat()
	if err != nil {
		return 0, osError(name, err)
	}
	if err := f.Chmod(0o644); err != nil { // not by the open mode: the umask would cut it, and a web server must read it
		return 0, osError(name, err)
	}
	if err := f.Close(); err != nil {
		return 0, osError(name, err)
	}
	if err := s.root.Rename(temp, filepath.FromSlash(name)); err != nil {
		return 0, osError(name, err)
	}
	return stat.Size(), nil
}

// errOf leaves errors that are ready for Python alone and translates those of the disk.
func errOf(name string, err error) error {
	if _, ok := errors.AsType[syscall.Errno](err); ok {
		return osError(name, err)
	}
	return err
}

// same tells whether name exists and is the file stat.
func (s storage) same(name string, stat os.FileInfo) bool {
	other, err := s.root.Stat(filepath.FromSlash(name))
	return err == nil && os.SameFile(other, stat)
}
