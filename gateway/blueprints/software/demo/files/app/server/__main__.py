"""Start the TODO list: python3 -m app.server --port 8000 --db todo.db"""

import argparse

from app.server.api import Api
from app.server.store import Store
from app.server.web import make_server


def main() -> None:
    parser = argparse.ArgumentParser("python3 -m app.server", description="A small TODO list: a page and a JSON API.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8000, help="port to listen on (default: %(default)s)")
    parser.add_argument("--db", default="todo.db", help="file that keeps the TODOs (default: %(default)s)")
    options = parser.parse_args()
    store = Store(options.db)
    try:
        server = make_server(Api(store), options.host, options.port)
    except OSError as error:
        parser.exit(1, f"cannot listen on {options.host}:{options.port}: {error.strerror}\n")
    print(f"TODO list on http://{options.host}:{server.server_port}/ (Ctrl-C stops it)", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        print()
    finally:
        server.server_close()
        store.close()


main()
