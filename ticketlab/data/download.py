"""The official files, fetched once into the cache folder and checked against their published sums."""

from __future__ import annotations

from pathlib import Path

from ticketlab.data import cache
from ticketlab.data.optional import optional
from ticketlab.errors import InputError

_TORONTO = "https://www.cs.toronto.edu/~kriz/"
_ZALANDO = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
_STANFORD = "http://cs231n.stanford.edu/"

FILES: dict[str, dict[str, str]] = {
    "cifar10": {f"{_TORONTO}cifar-10-python.tar.gz": "md5:c58f30108f718f92721af3b95e74349a"},
    "cifar100": {f"{_TORONTO}cifar-100-python.tar.gz": "md5:eb9058c3a382ffc7106e4002c42a8d85"},
    "fashion-mnist": {
        f"{_ZALANDO}train-images-idx3-ubyte.gz": "md5:8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        f"{_ZALANDO}train-labels-idx1-ubyte.gz": "md5:25c81989df183df01b3e8a0aad5dffbe",
        f"{_ZALANDO}t10k-images-idx3-ubyte.gz": "md5:bef4ecab320f06d8554ea6380940ec79",
        f"{_ZALANDO}t10k-labels-idx1-ubyte.gz": "md5:bb300cfdad3c16e7a12a480ee83cd310",
    },
    "tiny-imagenet": {f"{_STANFORD}tiny-imagenet-200.zip": "md5:90528d7ca1a48142e341f4ef8d21d0de"},
}


def download(name: str) -> Path:
    """The folder that holds the official files of `name`, fetched if they are not there yet.

    Raises InputError, saying where to put the files by hand, when they cannot be fetched or are damaged.
    """
    place = cache.folder() / "downloads" / name
    pooch = optional("pooch")
    fetch = pooch.HTTPDownloader(timeout=30)
    for url, checksum in FILES[name].items():
        try:
            pooch.retrieve(url, checksum, fname=url.rsplit("/", 1)[1], path=place, downloader=fetch)
        except (OSError, ValueError) as error:
            reason = str(error).split("\n")[0][:200]
            raise InputError(
                f"asked for data set {name!r}; {url} cannot be fetched ({reason}). Put the files "
                f"into {place}, or name their folder by --data-dir or in the variable TICKETLAB_DATA"
            ) from error
    return place
