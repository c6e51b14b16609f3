package images

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"

	"github.com/stalkworker/stalk/protocol"
)

// valueError is Python's ValueError: the caller asked for something that cannot be, or the file is no picture.
func valueError(format string, args ...any) error {
	return exception("ValueError", nil, fmt.Sprintf(format, args...))
}

func exception(class string, cause error, args ...protocol.Value) error {
	return &protocol.Exception{Module: "builtins", Type: class, Args: args, Cause: cause}
}

// suspicious is what Django itself raises when a storage name leaves the media root. Django's own words.
func suspicious(name, reason string) error {
	return &protocol.Exception{
		Module: "django.core.exceptions", Type: "SuspiciousFileOperation",
		Args: []protocol.Value{fmt.Sprintf("Detected path traversal attempt in '%s': %s", name, reason)},
	}
}

// osError makes the OSError that Python would have raised of an error of the file system. Refusals of os.Root
// itself have no number: they are what tells that a symbolic link leads out.
func osError(name string, err error) error {
	errno, ok := errors.AsType[syscall.Errno](err)
	if !ok {
		_, isPath := errors.AsType[*fs.PathError](err)
		_, isLink := errors.AsType[*os.LinkError](err)
		if isPath || isLink {
			return suspicious(name, "it leads out of the media root")
		}
		return exception("OSError", err, err.Error())
	}
	class := "OSError"
	switch errno {
	case syscall.ENOENT:
		class = "FileNotFoundError"
	case syscall.EACCES, syscall.EPERM:
		class = "PermissionError"
	case syscall.EEXIST:
		class = "FileExistsError"
	case syscall.EISDIR:
		class = "IsADirectoryError"
	case syscall.ENOTDIR:
		class = "NotADirectoryError"
	}
	text := errno.Error()
	return exception(class, err, int64(errno), strings.ToUpper(text[:1])+text[1:], name)
}
