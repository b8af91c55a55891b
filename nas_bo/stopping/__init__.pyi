from .reservation import Reservation as Reservation
from .successive_halving import Stopping as Stopping
from .successive_halving import SuccessiveHalving as SuccessiveHalving
