"""What shoppers asked and thought of the answers: kept masked, told in a report, learned from."""
