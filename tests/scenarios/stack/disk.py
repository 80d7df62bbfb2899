"""A small disk that can be full."""

from waiting import Skipped

from .base import is_root, run


class SmallDisk:
    """Memory of the kernel, mounted at a folder. Needs root."""

    def __init__(self, path, mib):
        if not is_root():
            raise Skipped("mounting a small disk needs root")
        self.path = path
        run(["mount", "-t", "tmpfs", "-o", f"size={mib}m,mode=755", "tmpfs", path])

    def resize(self, mib):
        run(["mount", "-o", f"remount,size={mib}m", self.path])

    def unmount(self):
        run(["umount", self.path])
