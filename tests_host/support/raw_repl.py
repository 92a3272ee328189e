"""A raw REPL for virtual boards, as the unix port has none: where a Ctrl-C has ended boot.py and main.py, this reads
what a tool types and runs it in the same MicroPython, soft reset included.
"""

START = """
import sys
try:
    import boot, main
except KeyboardInterrupt:
    import io, micropython
    micropython.kbd_intr(-1)
    typed, shown, code = sys.stdin.buffer, sys.stdout.buffer, b""
    prompt = b"raw REPL; CTRL-B to exit\\r\\n>"
    while True:
        c = typed.read(1)
        if not c:
            break
        if c == b"\\x01":
            shown.write(b"R\\x00" if code[:1] == b"\\x05" else prompt)
            code = b""
        elif c == b"\\x04" and not code:
            shown.write(b"OK\\r\\nMPY: soft reboot\\r\\n" + prompt)
        elif c == b"\\x04":
            error = io.StringIO()
            shown.write(b"OK")
            try:
                exec(code)
            except Exception as e:
                sys.print_exception(e, error)
            shown.write(b"\\x04" + error.getvalue().encode() + b"\\x04>")
            code = b""
        elif c in b"\\x02\\x03\\r":
            code = b""
        else:
            code += c
"""
