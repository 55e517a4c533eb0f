"""The disk tier: LMDB in a directory that every process of the host shares.

    tier         `Lmdb`, what users and the engine call
    atomic       its operations that read and write in one transaction
    keys         keys as canonical bytes
    meta         validators and a tag inside a record
    admission    what is worth writing
    writer       commits: those that meet become one, and room is made
    eviction     which records go when room is needed
    ledger       what a write transaction does: records and their indexes
    scan         walking through all entries
    sweeper      deletes what has expired, now and then
    marks        the file in which reads are noted
    sharing      one environment per directory and process, across forks
    layout       what a directory has: stamp, databases
    environment  LMDB opened: transactions, resizes, who may be inside
    durability   what a power failure spoils, and who has the directory open
    upkeep       verify, compact, back up
    directory    what is checked before LMDB sees a directory

The record itself is laid out in ``src/hybridcore/_native/record.pyx`` and read in ``reader.pyx``.
"""

from hybridcore._native.reader import Record
from hybridcore.disk.admission import Admission
from hybridcore.disk.tier import Lmdb

__all__ = ["Admission", "Lmdb", "Record"]
