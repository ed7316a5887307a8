"""What only the book needs: exercises and claims (`checks`), the live figures, and how its plots look."""
