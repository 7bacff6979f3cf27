"""One owner per run, on this host and on others: who has taken it, and whether he still lives."""

from codejoule.tracking.lease.files import Fence
from codejoule.tracking.lease.lease import Lease, is_owned
from codejoule.tracking.lease.owner import LostLeaseError

__all__ = ["Fence", "Lease", "LostLeaseError", "is_owned"]
