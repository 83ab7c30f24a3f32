"""Control: plans into settings, safely. A lease is the right to set one device, and leaves it as it was found."""
