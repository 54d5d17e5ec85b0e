"""Pruning as sketching (Bar & Giryes 2023): a mask is a random sample of the terms of ``X w = sum_i x_i w_i``.

Pure functions of tensors, with the formula and its source in each docstring. What is marked "derived here" follows from
the classical theory (Drineas, Kannan & Mahoney 2006); the constants of the paper itself are not known to us.
"""

from ticketlab.sketch.bounds import Bounds as Bounds
from ticketlab.sketch.bounds import bounds as bounds
from ticketlab.sketch.bounds import data_free_price as data_free_price
from ticketlab.sketch.bounds import mixture_bound as mixture_bound
from ticketlab.sketch.bounds import movement_bound as movement_bound
from ticketlab.sketch.bounds import near_optimality_bound as near_optimality_bound
from ticketlab.sketch.bounds import ratio_bound as ratio_bound
from ticketlab.sketch.bounds import relative_bound as relative_bound
from ticketlab.sketch.bounds import worst_data_free_price as worst_data_free_price
from ticketlab.sketch.expected import EndError as EndError
from ticketlab.sketch.expected import Shrunk as Shrunk
from ticketlab.sketch.expected import best_shrinkage as best_shrinkage
from ticketlab.sketch.expected import error_at as error_at
from ticketlab.sketch.expected import error_variance as error_variance
from ticketlab.sketch.expected import expected_error as expected_error
from ticketlab.sketch.expected import expected_error_over_data as expected_error_over_data
from ticketlab.sketch.expected import kernel_error as kernel_error
from ticketlab.sketch.expected import kernel_probabilities as kernel_probabilities
from ticketlab.sketch.expected import optimal_error as optimal_error
from ticketlab.sketch.expected import optimal_product_error as optimal_product_error
from ticketlab.sketch.expected import poisson_error as poisson_error
from ticketlab.sketch.expected import product_error as product_error
from ticketlab.sketch.expected import product_probabilities as product_probabilities
from ticketlab.sketch.masks import inclusion as inclusion
from ticketlab.sketch.masks import poisson_mask as poisson_mask
from ticketlab.sketch.masks import sample_mask as sample_mask
from ticketlab.sketch.measure import Measured as Measured
from ticketlab.sketch.measure import mask_errors as mask_errors
from ticketlab.sketch.measure import measured_error as measured_error
from ticketlab.sketch.probabilities import KINDS as KINDS
from ticketlab.sketch.probabilities import NormalisedWarning as NormalisedWarning
from ticketlab.sketch.probabilities import probabilities as probabilities
