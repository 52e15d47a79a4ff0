"""Run ComfyUI's main.py and end with the program that started it: `python comfyui_child.py PID [ComfyUI's flags]`.

A server must not outlive a test run that was killed. The working folder is ComfyUI's; PID is the starter's.
"""

from __future__ import annotations

import os
import runpy
import sys
import threading
import time


def end_with(starter: int) -> None:
    """Wait until the process with this id is gone, then end this one."""
    if os.name == "nt":
        import _winapi

        _winapi.WaitForSingleObject(_winapi.OpenProcess(_winapi.SYNCHRONIZE, False, starter), _winapi.INFINITE)
    else:
        while os.getppid() == starter:
            time.sleep(0.5)
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=end_with, args=(int(sys.argv[1]),), daemon=True).start()
    folder = os.getcwd()
    sys.path[0] = folder
    sys.argv[:] = [os.path.join(folder, "main.py"), *sys.argv[2:]]
    runpy.run_path(sys.argv[0], run_name="__main__")
