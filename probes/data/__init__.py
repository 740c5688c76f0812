"""What is probed: rows, concepts and features, and the forms they are worked on in."""
