"""Does one operation at the start and one for each line of its input, with the client that the page makes."""

import sys

from connect import connect


def operate(client):
    try:
        client.shop.orders.find_one()
        print("ok", flush=True)
    except Exception as error:
        print("failed:", " ".join(str(error).split()), flush=True)


with connect() as client:
    operate(client)
    for _ in sys.stdin:
        operate(client)
