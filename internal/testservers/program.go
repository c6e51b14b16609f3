package testservers

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// Where servers of other versions come from: folders that hold another system, as scripts/brokers.sh makes them.
// Unset, the programs are this system's.
const (
	envRabbitRoot  = "STALK_RABBITMQ_ROOT"
	envRedisRoot   = "STALK_REDIS_ROOT"
	envRedisServer = "STALK_REDIS_SERVER" // "valkey-server" instead of "redis-server"
)

// A program is a file of this system or of another system in a folder.
type program struct {
	root string // absolute; "" is this system
	path string // absolute in root
}

// enter makes a mount namespace in which the folder has /proc, /dev and our temporary files under their own
// names, and becomes the program. Each step replaces the one before, so the process that was started is the
// server; and what is mounted is gone with it, however it ends.
const enter = `root=$1 tmp=$2 dir=$3
shift 3
mkdir -p "$root/proc" "$root/dev" "$root$tmp"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount --bind "$tmp" "$root$tmp"
exec chroot "$root" /usr/bin/env -C "$dir" "$@"`

// command is how the program is started in dir, a folder under os.TempDir. It is killed when ctx is done.
func (p program) command(ctx context.Context, dir string, args []string) *exec.Cmd {
	if p.root == "" {
		cmd := exec.CommandContext(ctx, p.path, args...)
		cmd.Dir = dir
		return cmd
	}
	return exec.CommandContext(ctx, "unshare", append([]string{"--mount", "--", "/bin/sh", "-ec", enter, "sh", p.root, os.TempDir(), dir, p.path}, args...)...)
}

// lookup finds a program: in root, unless that is "", else in one of folders or in PATH.
func lookup(root, name string, folders ...string) (program, error) {
	if root == "" {
		for _, f := range folders {
			if path, err := exec.LookPath(filepath.Join(f, name)); err == nil {
				return program{path: path}, nil
			}
		}
		if path, err := exec.LookPath(name); err == nil {
			return program{path: path}, nil
		}
		return program{}, fmt.Errorf("%w: %q (apt-get install redis-server rabbitmq-server, or make setup)", ErrMissing, name)
	}
	if !filepath.IsAbs(root) {
		return program{}, fmt.Errorf("testservers: folder %q is not absolute", root)
	}
	for _, f := range append(folders, "/usr/local/bin", "/usr/bin", "/usr/sbin") {
		path := filepath.Join(f, name)
		// Lstat: an absolute link would be followed in this system.
		if _, err := os.Lstat(filepath.Join(root, path)); err == nil {
			return program{root: root, path: path}, nil
		}
	}
	return program{}, fmt.Errorf("%w: %q in %s (scripts/brokers.sh)", ErrMissing, name, root)
}
