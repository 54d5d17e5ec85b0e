"""Loggers: whoever wants to hear of every finished training, with its curves."""

from ticketlab.logging.listener import Listening as Listening
from ticketlab.logging.listener import listener as listener
from ticketlab.logging.logger import Logger as Logger
from ticketlab.logging.logger import Training as Training
from ticketlab.logging.tensorboard import TensorBoard as TensorBoard
