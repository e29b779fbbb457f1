def run():
    import os
    import sys

    write, token, paths = os.write, sys.stdin.buffer.readline(), sys.argv[1:]
    sys.argv = paths[:1]
    for path in paths:
        with open(path, "rb") as file:
            code = compile(file.read(), path, "exec", dont_inherit=True)
        exec(code, globals())
    write(1, b"\n" + token)


run()
