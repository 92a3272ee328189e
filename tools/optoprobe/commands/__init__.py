"""The subcommands, a module each: add_parser(subparsers) describes its options, run(args) does it and returns the exit
code. All are imported at every start, so what only run() needs is imported inside it.
"""
