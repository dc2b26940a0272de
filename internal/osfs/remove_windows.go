package osfs

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"unsafe"

	"golang.org/x/sys/windows"
)

// RemoveIn is root.Remove, also where the system lacks what that asks for: Wine before 9 says that it has no such function,
// which package os takes for the answer.
func RemoveIn(root *os.Root, name string) error {
	err := root.Remove(name)
	if !errors.Is(err, windows.ERROR_INVALID_FUNCTION) {
		return err
	}
	dir, base := path.Split(path.Clean(name))
	parent, err := root.Open(path.Clean(dir)) // never outside of root
	if err != nil {
		return err
	}
	defer parent.Close()
	if err := removeAt(windows.Handle(parent.Fd()), base); err != nil {
		return &fs.PathError{Op: "remove", Path: name, Err: err}
	}
	return nil
}

// removeAt deletes a file, a link or an empty directory, as systems before Windows 10 do: by its name in an open directory.
func removeAt(dir windows.Handle, base string) error {
	name, err := windows.NewNTUnicodeString(base)
	if err != nil {
		return err
	}
	attributes := &windows.OBJECT_ATTRIBUTES{RootDirectory: dir, ObjectName: name, Attributes: windows.OBJ_CASE_INSENSITIVE}
	attributes.Length = uint32(unsafe.Sizeof(*attributes))
	var h windows.Handle
	var status windows.IO_STATUS_BLOCK
	err = windows.NtCreateFile(&h, windows.DELETE, attributes, &status, nil, 0,
		windows.FILE_SHARE_READ|windows.FILE_SHARE_WRITE|windows.FILE_SHARE_DELETE, windows.FILE_OPEN,
		windows.FILE_OPEN_REPARSE_POINT|windows.FILE_OPEN_FOR_BACKUP_INTENT, 0, 0)
	if err == nil {
		gone := byte(1)
		err = windows.NtSetInformationFile(h, &status, &gone, 1, windows.FileDispositionInformation)
		if cerr := windows.CloseHandle(h); err == nil {
			err = cerr
		}
	}
	var nt windows.NTStatus
	if errors.As(err, &nt) {
		return nt.Errno()
	}
	return err
}
