"""`optoprobe demo`: being written."""


def add_parser(subparsers):
    parser = subparsers.add_parser("demo")
    parser.set_defaults(run=run)


def run(args):
    return 2
