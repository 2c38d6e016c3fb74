"""The starter domain: questions with known answers, manners that parse exactly, and simulated people who judge them."""
