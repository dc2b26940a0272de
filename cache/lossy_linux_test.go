//go:build amd64 || arm64

package cache_test

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/senbonzakura/senbonzakura/cache"
	"github.com/senbonzakura/senbonzakura/internal/faultfs"
	"github.com/senbonzakura/senbonzakura/internal/osfs"
)

func init() { children["powercut"] = powerCutChild }

// lossy is a file system in memory that remembers what is durable: the bytes of a file as of its last fsync, and the
// names of a directory as of its last fsync. A cut gives two images, because real file systems stand between them:
// one with all names and the durable bytes, and one with the durable names and bytes only.
type lossy struct {
	mu     sync.Mutex
	root   *lossyNode
	writes int             // operations that change something
	cuts   map[int]bool    // before which of them an image is taken
	acked  func() []string // what the writer was promised by now
	images []lossyImage    // taken
	ino    uint64          // last given
}

type lossyImage struct {
	files map[string][]byte // nil for directories
	acked []string
}

type lossyNode struct {
	fs.Inode
	w       *lossy
	dir     bool
	data    []byte
	durable []byte // data as of the last fsync
	now     map[string]*lossyNode
	later   map[string]*lossyNode // now as of the last fsync
	mtime   time.Time
	mode    uint32
}

func (w *lossy) node(dir bool, mode uint32) *lossyNode {
	n := &lossyNode{w: w, dir: dir, mode: mode & 0o777, mtime: time.Now()}
	if dir {
		n.now, n.later = map[string]*lossyNode{}, map[string]*lossyNode{}
	}
	return n
}

// step is called, with the lock, before every change.
func (w *lossy) step() {
	if w.cuts[w.writes] {
		acked := w.acked()
		for _, durableNames := range []bool{false, true} {
			image := lossyImage{files: map[string][]byte{}, acked: acked}
			w.root.image("", durableNames, image.files)
			w.images = append(w.images, image)
		}
	}
	w.writes++
}

func (n *lossyNode) image(at string, durableNames bool, files map[string][]byte) {
	if !n.dir {
		files[at] = bytes.Clone(n.durable)
		if files[at] == nil {
			files[at] = []byte{}
		}
		return
	}
	files[at] = nil
	names := n.now
	if durableNames {
		names = n.later
	}
	for name, child := range names {
		child.image(filepath.Join(at, name), durableNames, files)
	}
}

var (
	_ fs.NodeCreater   = (*lossyNode)(nil)
	_ fs.NodeMkdirer   = (*lossyNode)(nil)
	_ fs.NodeUnlinker  = (*lossyNode)(nil)
	_ fs.NodeRmdirer   = (*lossyNode)(nil)
	_ fs.NodeRenamer   = (*lossyNode)(nil)
	_ fs.NodeOpener    = (*lossyNode)(nil)
	_ fs.NodeReader    = (*lossyNode)(nil)
	_ fs.NodeWriter    = (*lossyNode)(nil)
	_ fs.NodeFsyncer   = (*lossyNode)(nil)
	_ fs.NodeGetattrer = (*lossyNode)(nil)
	_ fs.NodeSetattrer = (*lossyNode)(nil)
)

func (n *lossyNode) attr(out *fuse.Attr) {
	out.Mode = n.mode
	out.Size = uint64(len(n.data))
	out.SetTimes(nil, &n.mtime, &n.mtime)
	out.Nlink = 1
}

func (n *lossyNode) add(ctx context.Context, name string, child *lossyNode, out *fuse.EntryOut) *fs.Inode {
	n.w.step()
	n.w.ino++
	kind := uint32(syscall.S_IFREG)
	if child.dir {
		kind = syscall.S_IFDIR
	}
	inode := n.NewPersistentInode(ctx, child, fs.StableAttr{Mode: kind, Ino: n.w.ino})
	n.now[name] = child
	child.attr(&out.Attr)
	return inode
}

func (n *lossyNode) Create(ctx context.Context, name string, _, mode uint32, out *fuse.EntryOut) (*fs.Inode, fs.FileHandle, uint32, syscall.Errno) {
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	return n.add(ctx, name, n.w.node(false, mode), out), nil, 0, 0
}

func (n *lossyNode) Mkdir(ctx context.Context, name string, mode uint32, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	return n.add(ctx, name, n.w.node(true, mode), out), 0
}

func (n *lossyNode) Unlink(_ context.Context, name string) syscall.Errno {
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	n.w.step()
	delete(n.now, name)
	return 0
}

func (n *lossyNode) Rmdir(_ context.Context, name string) syscall.Errno {
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	if len(n.now[name].now) > 0 {
		return syscall.ENOTEMPTY
	}
	n.w.step()
	delete(n.now, name)
	return 0
}

func (n *lossyNode) Rename(_ context.Context, name string, to fs.InodeEmbedder, newName string, flags uint32) syscall.Errno {
	if flags != 0 {
		return syscall.EINVAL
	}
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	n.w.step()
	target := to.(*lossyNode)
	target.now[newName] = n.now[name]
	delete(n.now, name)
	return 0
}

func (n *lossyNode) Open(context.Context, uint32) (fs.FileHandle, uint32, syscall.Errno) {
	return nil, 0, 0
}

func (n *lossyNode) Read(_ context.Context, _ fs.FileHandle, dest []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	if off >= int64(len(n.data)) {
		return fuse.ReadResultData(nil), 0
	}
	return fuse.ReadResultData(dest[:copy(dest, n.data[off:])]), 0
}

func (n *lossyNode) resize(size int) {
	if size <= len(n.data) {
		n.data = n.data[:size:size]
	} else {
		n.data = append(n.data, make([]byte, size-len(n.data))...)
	}
}

func (n *lossyNode) Write(_ context.Context, _ fs.FileHandle, data []byte, off int64) (uint32, syscall.Errno) {
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	n.w.step()
	n.resize(max(len(n.data), int(off)+len(data)))
	copy(n.data[off:], data)
	return uint32(len(data)), 0
}

func (n *lossyNode) Fsync(context.Context, fs.FileHandle, uint32) syscall.Errno {
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	n.w.step()
	n.durable, n.later = bytes.Clone(n.data), maps.Clone(n.now)
	return 0
}

func (n *lossyNode) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	n.attr(&out.Attr)
	return 0
}

func (n *lossyNode) Setattr(_ context.Context, _ fs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	if size, ok := in.GetSize(); ok {
		n.w.step()
		n.resize(int(size))
	}
	if t, ok := in.GetMTime(); ok {
		n.mtime = t
	}
	if mode, ok := in.GetMode(); ok {
		n.mode = mode & 0o777
	}
	n.attr(&out.Attr)
	return 0
}

// powerCutChild writes values on such a file system, in all ways, and then looks at the images of power cuts.
func powerCutChild(args []string) error {
	ctx := context.Background()
	puts, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	if err := mountPrivately(); err != nil {
		return err
	}
	mount := filepath.Join(args[0], "mount")
	if err := os.Mkdir(mount, 0o700); err != nil {
		return err
	}
	var mu sync.Mutex
	var acked []string
	w := &lossy{cuts: map[int]bool{}, acked: func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(acked)
	}}
	w.root = w.node(true, 0o700)
	w.ino = 1
	second := time.Second
	server, err := fs.Mount(mount, w.root, &fs.Options{
		AttrTimeout: &second, EntryTimeout: &second, RootStableAttr: &fs.StableAttr{Ino: 1},
		MountOptions: fuse.MountOptions{DirectMountStrict: true, FsName: "lossy", Name: "lossy"},
	})
	if err != nil {
		return err
	}
	defer server.Unmount()
	var fsys osfs.FS = osfs.OS{}
	if args[2] == "false" {
		fsys = faultfs.WithoutSync(fsys)
	}
	d, err := cache.OpenDisk(ctx, mount, nil) // the directory itself is durable in any case
	if err != nil {
		return err
	}
	d.Close()
	if d, err = cache.OpenDiskOn(ctx, mount, cache.DiskOptions{}, fsys, time.Now); err != nil {
		return err
	}
	// 20 cuts, spread over the whole, wherever they fall.
	const each = 10 // about as many changes as one value takes
	w.mu.Lock()
	for i := range 20 {
		w.cuts[w.writes+i*puts*each/20+i*7%each] = true
	}
	w.mu.Unlock()
	for i := range puts {
		name := fmt.Sprint("power-", i)
		k, data := named(cache.Patches, name)
		if i%3 == 0 {
			file := filepath.Join(d.TempDir(), "adopt")
			if err := os.WriteFile(file, data, 0o600); err != nil {
				return err
			}
			e, err := adoptEither(ctx, d, k, file, data, i)
			if err != nil {
				return err
			}
			e.Close()
		} else if _, err := d.Put(ctx, k, bytes.NewReader(data)); err != nil {
			return err
		}
		mu.Lock()
		acked = append(acked, name)
		mu.Unlock()
	}
	w.mu.Lock()
	for i := range 3 { // and after the last
		w.cuts[w.writes+i] = true
		w.step()
	}
	w.mu.Unlock()
	d.Close()
	if err := server.Unmount(); err != nil {
		return err
	}
	w.mu.Lock()
	images := w.images
	w.mu.Unlock()
	var r powerCutResult
	for i, image := range images {
		dir := filepath.Join(args[0], fmt.Sprint("image-", i))
		for _, name := range sortedKeys(image.files) { // directories come before what is in them
			at := filepath.Join(dir, name)
			if data := image.files[name]; data != nil {
				err = os.WriteFile(at, data, 0o600)
			} else {
				err = os.Mkdir(at, 0o700)
			}
			if err != nil {
				return err
			}
		}
		if err := r.look(dir, image.acked); err != nil {
			// A cache whose own files were lost in the middle may have to be refused, but only without syncing.
			if args[2] != "false" {
				return err
			}
			r.cuts++
			r.bad++
		}
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	}
	fmt.Println(r.cuts, r.acked, r.lost, r.wrong, r.damaged, r.bad)
	return nil
}
